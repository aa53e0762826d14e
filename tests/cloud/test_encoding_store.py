import contextlib
import itertools
import random
import threading
from pathlib import Path

import pytest

from cloud.storage.blobs import Blobs
from cloud.storage.directory import Directory
from cloud.storage.encodings import EncodedBlob, EncodingStore, Recipe
from runtime import digests
from runtime.bundle import encodings, parts
from runtime.bundle.blobs import BlobStore
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError
from tests.support import powercuts

DATA = random.Random(1).randbytes(2_500_000) + bytes(500_000)


class Place:
    """A store of encodings, on a directory that may be opened again."""

    def __init__(self, directory: Path) -> None:
        self.store = Directory(directory)
        self.blobs = Blobs(self.store)
        self.encodings = EncodingStore(self.store, self.blobs)

    def encoded(self, made: EncodedBlob) -> bytes:
        return b"".join(self.store.read(made.key))

    def decoded(self, made: EncodedBlob, device: Path) -> bytes:
        target = BlobStore(device)
        with self.store.local(made.key) as path:
            encodings.decode(
                made.recipe.encoding, path, target, size=made.table.size, sha256=made.recipe.blob
            )
        return target.path(made.recipe.blob).read_bytes()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "registry")


def whole(digest: Digest) -> Recipe:
    return Recipe(digest, encodings.ZSTD)


@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_what_is_encoded_decodes_to_the_same_bytes(
    place: Place, tmp_path: Path, data: bytes
) -> None:
    made = place.encodings.get(whole(place.blobs.put_bytes(data)))

    assert place.decoded(made, tmp_path / "device") == data
    assert made.table.size == len(data)
    assert made.table.encoded_size == place.store.size(made.key)
    assert made.table.encoded_size <= len(data) + 1024


def test_the_table_names_every_part(place: Place) -> None:
    made = place.encodings.get(whole(place.blobs.put_bytes(DATA)))

    encoded = place.encoded(made)
    assert len(made.table.parts) == 3
    for number, digest in enumerate(made.table.parts):
        start, stop = made.table.span(number)
        assert digests.of_bytes(encoded[start:stop]) == digest
    assert digests.of_bytes(made.table_bytes) == made.table_sha256
    assert parts.decode(made.table_bytes) == made.table
    assert b"".join(place.store.read(made.table_key)) == made.table_bytes


def test_an_encoding_is_made_once_and_kept(place: Place, tmp_path: Path) -> None:
    recipe = whole(place.blobs.put_bytes(DATA))
    assert place.encodings.ready(recipe) is None
    made = place.encodings.get(recipe)
    with place.store.local(made.key) as path:
        before = path.stat().st_ino

        assert place.encodings.get(recipe) is made
        assert Place(tmp_path / "registry").encodings.get(recipe) == made
        assert place.encodings.ready(recipe) == made
        assert path.stat().st_ino == before


def test_threads_that_ask_at_once_get_one_and_the_same(place: Place) -> None:
    recipe = whole(place.blobs.put_bytes(DATA))
    made: list[EncodedBlob] = []
    counted = itertools.count()
    start = threading.Barrier(4)

    def encode(encoding: str, source: Path, target: Path, *, base: Path | None = None) -> None:
        next(counted)
        encodings.encode(encoding, source, target, base=base)

    def ask() -> None:
        start.wait()
        made.append(place.encodings.get(recipe, encode=encode))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert made == [made[0]] * 4
    assert next(counted) == 1


def test_an_encoding_made_again_has_the_same_bytes(place: Place) -> None:
    """A device half-way through a download can go on."""
    recipe = whole(place.blobs.put_bytes(DATA))
    first = place.encodings.get(recipe).table_sha256
    place.encodings.delete(recipe)
    assert place.encodings.ready(recipe) is None

    assert place.encodings.get(recipe).table_sha256 == first


def test_a_power_cut_while_encoding_leaves_all_or_nothing(tmp_path: Path) -> None:
    for steps in itertools.count():
        directory = tmp_path / f"registry-{steps}"
        recipe = whole(Place(directory).blobs.put_bytes(DATA))
        with powercuts.after(steps) as counted:
            Place(directory).encodings.get(recipe)
        again = Place(directory)
        left = again.encodings.ready(recipe)
        assert (
            left is None or digests.of_bytes(again.encoded(left)[: 1 << 20]) == left.table.parts[0]
        )
        made = again.encodings.get(recipe)
        assert again.decoded(made, tmp_path / f"device-{steps}") == DATA
        assert list(again.store.scratch().iterdir()) == []
        if counted.seen < steps:
            break
    assert steps >= 6


def test_a_power_cut_while_deleting_leaves_what_can_be_made_again_or_deleted(
    tmp_path: Path,
) -> None:
    for steps in itertools.count():
        directory = tmp_path / f"registry-{steps}"
        recipe = whole(Place(directory).blobs.put_bytes(DATA))
        Place(directory).encodings.get(recipe)
        with powercuts.after(steps) as counted:
            Place(directory).encodings.delete(recipe)

        again = Place(directory)
        listed = [one.recipe for one in again.encodings.stored()]
        assert listed == ([recipe] if again.store.size(f"{recipe.key}.data") else [])
        if counted.seen < steps:
            break
        made = again.encodings.get(recipe)
        assert again.decoded(made, tmp_path / f"device-{steps}") == DATA
    assert listed == []
    assert steps >= 2


def test_an_encoding_that_was_cut_short_is_made_again(place: Place, tmp_path: Path) -> None:
    made = place.encodings.get(whole(place.blobs.put_bytes(DATA)))
    with place.store.local(made.key) as path:
        path.chmod(0o600)
        path.write_bytes(b"short")

    again = Place(tmp_path / "registry")

    assert again.encodings.ready(made.recipe) is None
    assert place.encodings.ready(made.recipe) is None
    assert again.decoded(again.encodings.get(made.recipe), tmp_path / "device") == DATA


def test_what_is_stored_is_listed_with_its_size(place: Place) -> None:
    one, other = place.blobs.put_bytes(DATA), place.blobs.put_bytes(b"x")
    made = [place.encodings.get(whole(blob)) for blob in (one, other)]

    stored = {found.recipe: found for found in place.encodings.stored()}

    assert set(stored) == {whole(one), whole(other)}
    for each in made:
        size = each.table.encoded_size + len(each.table_bytes)
        assert stored[each.recipe].size_bytes == size


def test_each_base_has_a_key_of_its_own() -> None:
    blob, base = digests.of_bytes(b"new"), digests.of_bytes(b"old")

    keys = {Recipe(blob, "patch").key, Recipe(blob, "patch", base).key}
    keys |= {Recipe(blob, "tensor-delta", base).key, Recipe(base, "patch", blob).key}

    assert len(keys) == 4


def test_what_fails_to_be_made_leaves_nothing(place: Place) -> None:
    recipe = whole(place.blobs.put_bytes(DATA))

    def fail(_encoding: str, _source: Path, target: Path, *, base: Path | None = None) -> None:
        target.write_bytes(b"half")
        raise IntegrityError("encoder", wanted="an encoding", got=str(base))

    with contextlib.suppress(IntegrityError):
        place.encodings.get(recipe, encode=fail)

    assert place.encodings.ready(recipe) is None
    assert list(place.encodings.stored()) == []
    assert list(place.store.scratch().iterdir()) == []


def test_unknown_blobs_and_encodings_are_refused(place: Place) -> None:
    with pytest.raises(InvalidError, match="does not have it"):
        place.encodings.get(whole(digests.of_bytes(b"nobody put this")))
    with pytest.raises(InvalidError, match="ask for one of"):
        place.encodings.get(Recipe(place.blobs.put_bytes(b"x"), "lzma"))
