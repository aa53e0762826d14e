import random
import threading
from pathlib import Path

import pytest
import zstandard

from runtime import digests, files
from runtime.bundle import encodings, parts
from runtime.bundle.blobs import BlobStore
from runtime.bundle.encodings import EncodedBlob, EncodingStore
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError
from tests.support import powercuts

DATA = random.Random(1).randbytes(2_500_000) + bytes(500_000)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def store(tmp_path: Path, blobs: BlobStore) -> EncodingStore:
    return EncodingStore(tmp_path / "encodings", blobs)


def decoded(encoded: Path, place: Path, *, size: int, sha256: Digest) -> BlobStore:
    target = BlobStore(place)
    encodings.decode("zstd", encoded, target, size=size, sha256=sha256)
    return target


@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_what_is_encoded_decodes_to_the_same_bytes(
    blobs: BlobStore, store: EncodingStore, tmp_path: Path, data: bytes
) -> None:
    digest = blobs.put_bytes(data)
    made = store.get(digest, "zstd")

    target = decoded(made.path, tmp_path / "device", size=len(data), sha256=digest)

    target.check(digest)
    assert made.table.size == len(data)
    assert made.table.encoded_size == made.path.stat().st_size <= len(data) + 1024


def test_the_table_names_every_part(blobs: BlobStore, store: EncodingStore) -> None:
    made = store.get(blobs.put_bytes(DATA), "zstd")

    encoded = made.path.read_bytes()
    assert len(made.table.parts) == 3
    for number, digest in enumerate(made.table.parts):
        start, stop = made.table.span(number)
        assert b"".join(made.chunks(start, stop)) == encoded[start:stop]
        assert digests.of_bytes(encoded[start:stop]) == digest
    assert digests.of_bytes(made.table_bytes) == made.table_sha256
    assert parts.decode(made.table_bytes) == made.table


def test_an_encoding_is_made_once_and_kept(
    blobs: BlobStore, store: EncodingStore, tmp_path: Path
) -> None:
    digest = blobs.put_bytes(DATA)
    made = store.get(digest, "zstd")
    before = made.path.stat().st_mtime_ns

    assert store.get(digest, "zstd") is made
    assert EncodingStore(tmp_path / "encodings", blobs).get(digest, "zstd") == made
    assert made.path.stat().st_mtime_ns == before


def test_threads_that_ask_at_once_get_one_and_the_same(
    blobs: BlobStore, store: EncodingStore
) -> None:
    digest = blobs.put_bytes(DATA)
    made: list[EncodedBlob] = []
    inodes: list[int] = []
    start = threading.Barrier(4)

    def ask() -> None:
        start.wait()
        made.append(store.get(digest, "zstd"))
        inodes.append(made[-1].path.stat().st_ino)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert made == [made[0]] * 4
    assert len(set(inodes)) == 1


def test_an_encoding_made_again_has_the_same_bytes(blobs: BlobStore, store: EncodingStore) -> None:
    """A device half-way through a download can go on."""
    digest = blobs.put_bytes(DATA)
    first = store.get(digest, "zstd").table_sha256
    store.delete(digest)

    assert store.get(digest, "zstd").table_sha256 == first


def test_a_power_cut_while_encoding_leaves_all_or_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    digest = blobs.put_bytes(DATA)
    with powercuts.after(None) as counted:
        EncodingStore(tmp_path / "counted", blobs).get(digest, "zstd")
    for steps in range(counted.seen):
        place = tmp_path / f"encodings-{steps}"
        with powercuts.after(steps):
            EncodingStore(place, blobs).get(digest, "zstd")
        made = EncodingStore(place, blobs).get(digest, "zstd")
        device = tmp_path / f"device-{steps}"
        decoded(made.path, device, size=len(DATA), sha256=digest).check(digest)
    assert counted.seen >= 6


def test_leftovers_are_swept_and_damage_is_made_good(
    blobs: BlobStore, store: EncodingStore, tmp_path: Path
) -> None:
    digest = blobs.put_bytes(DATA)
    made = store.get(digest, "zstd")
    leftover = made.path.with_name(f".{made.path.name}.1-2{files.TEMPORARY_SUFFIX}")
    leftover.write_bytes(b"half")
    made.path.write_bytes(b"short")

    again = EncodingStore(tmp_path / "encodings", blobs).get(digest, "zstd")

    assert not leftover.exists()
    assert again.path.stat().st_size == again.table.encoded_size


def test_unknown_blobs_and_encodings_are_refused(blobs: BlobStore, store: EncodingStore) -> None:
    with pytest.raises(InvalidError, match="does not have it"):
        store.get(digests.of_bytes(b"nobody put this"), "zstd")
    with pytest.raises(InvalidError, match="ask for one of zstd"):
        store.get(blobs.put_bytes(b"x"), "lzma")
    with pytest.raises(InvalidError, match="this version reads zstd"):
        encodings.decode("lzma", blobs.root, blobs, size=1, sha256=digests.of_bytes(b""))


def test_more_bytes_than_promised_are_never_written(tmp_path: Path) -> None:
    """A thousand times the promised size, in a few bytes."""
    bomb = tmp_path / "bomb"
    bomb.write_bytes(zstandard.compress(bytes(1_000_000)))

    with pytest.raises(IntegrityError, match="at most 1000 bytes"):
        decoded(bomb, tmp_path / "device", size=1000, sha256=digests.of_bytes(bytes(1_000_000)))
    assert [path for path in (tmp_path / "device").rglob("*") if path.is_file()] == []


def test_a_window_that_would_eat_the_memory_is_refused(tmp_path: Path) -> None:
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True)
    encoded = tmp_path / "wide"
    writer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    encoded.write_bytes(writer.compress(DATA) + writer.flush())

    with pytest.raises(IntegrityError, match="wanted a zstd stream"):
        decoded(encoded, tmp_path / "device", size=len(DATA), sha256=digests.of_bytes(DATA))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_encoding_leaves_nothing(tmp_path: Path, damage: str) -> None:
    whole = bytearray(zstandard.compress(DATA))
    match damage:
        case "cut":
            del whole[len(whole) // 2 :]
        case "flip":
            whole[len(whole) // 2] ^= 1
        case "empty":
            whole.clear()
        case _:
            whole[:] = b"<html>please log in</html>"
    encoded = tmp_path / "encoded"
    encoded.write_bytes(whole)

    with pytest.raises(IntegrityError):
        decoded(encoded, tmp_path / "device", size=len(DATA), sha256=digests.of_bytes(DATA))
    assert [path for path in (tmp_path / "device").rglob("*") if path.is_file()] == []
