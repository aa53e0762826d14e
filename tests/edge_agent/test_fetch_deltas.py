"""Blobs that come as a delta to what the device has, and what happens where that fails."""

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from cloud.storage.encodings import Recipe
from edge_agent.bundles import partfile, room, unpack
from edge_agent.bundles.fetch import Fetcher
from edge_agent.bundles.patience import FetchCancelledError
from runtime import digests
from runtime.bundle import encodings
from runtime.bundle.blobs import BlobStore
from runtime.bundle.build import Built
from runtime.bundle.parts import PART_BYTES
from runtime.errors import IntegrityError, InvalidError, LinkError
from runtime.messages import FetchRequest, FetchResponse
from runtime.retry import Backoff
from tests.support.bundle_sources import write_bundle
from tests.support.httpfiles import NO_FAULT, Fault, FileServer

HALF = PART_BYTES // 2
OLD = random.Random(2).randbytes(PART_BYTES)
NEW = OLD[:HALF] + random.Random(3).randbytes(PART_BYTES + 5000) + OLD[HALF:]
OTHER = NEW[:PART_BYTES] + random.Random(4).randbytes(HALF)
OLD_DIGEST, NEW_DIGEST, OTHER_DIGEST = map(digests.of_bytes, (OLD, NEW, OTHER))
PATCH = Recipe(NEW_DIGEST, encodings.PATCH, OLD_DIGEST)
FROM_OTHER = Recipe(NEW_DIGEST, encodings.PATCH, OTHER_DIGEST)
MakeFetcher = Callable[..., Fetcher]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry's directory with three versions, and a delta to the newest from each other."""
    directory = tmp_path_factory.mktemp("registry")
    prepared = FileServer(directory)
    for content in (OLD, OTHER, NEW):
        prepared.add(source(directory, content))
    for recipe in (PATCH, FROM_OTHER):
        prepared.encodings.get(recipe)
    prepared.close()
    return directory


def source(directory: Path, content: bytes) -> Path:
    """Return the directory of a bundle with this file, written if it is not there."""
    made = directory / f"source-{digests.of_bytes(content)[:8]}"
    if not made.exists():
        write_bundle(made)
        (made / "table.bin").write_bytes(content)
    return made


@pytest.fixture
def server(place: Path) -> Iterator[FileServer]:
    with FileServer(place).running() as running:
        running.deltas[NEW_DIGEST] = PATCH
        yield running


@pytest.fixture
def old(server: FileServer, place: Path) -> Built:
    return server.add(source(place, OLD))


@pytest.fixture
def new(server: FileServer, place: Path) -> Built:
    return server.add(source(place, NEW))


@pytest.fixture
def device(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "device" / "blobs")


@pytest.fixture
def make(tmp_path: Path, server: FileServer, device: BlobStore, old: Built) -> MakeFetcher:
    """A fetcher on a device that runs the old version."""
    device.put_bytes(old.index_bytes)
    for digest, path in old.files.items():
        device.put_file(digest, path)

    def fetcher(**changes: object) -> Fetcher:
        settings: dict[str, object] = {
            "ask": server.answer,
            "ca_file": None,
            "reserve_bytes": 0,
            "backoff": Backoff(first_s=0.001, most_s=0.01),
            "held": lambda: (old.digest,),
        }
        return Fetcher(device, tmp_path / "device" / "work", **(settings | changes))  # type: ignore[arg-type]  # checked by running

    return fetcher


def spoil(path: Path) -> None:
    """Change one byte of a file that is read-only."""
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def asked_for(server: FileServer, encoding: str) -> list[str]:
    """Return the ranges of the new file that were asked for in an encoding."""
    prefix = f"/dl/{encoding}/{NEW_DIGEST}"
    return [
        asked
        for path, asked in server.requests
        if path.startswith(prefix) and not path.endswith("parts")
    ]


def require_new(device: BlobStore, fetcher: Fetcher) -> None:
    device.check(NEW_DIGEST)
    assert list(fetcher.work.iterdir()) == []


def test_what_changed_is_all_that_travels(
    make: MakeFetcher, new: Built, old: Built, server: FileServer, device: BlobStore
) -> None:
    warned: list[str] = []
    fetcher = make(memory=lambda: 123_000_000)

    fetcher.fetch(new.digest, warn=warned.append)

    require_new(device, fetcher)
    assert warned == []
    assert asked_for(server, "zstd") == []
    request = server.asked[-1]
    assert (request.bundle, request.held) == (new.digest, (old.digest,))
    assert (request.memory_bytes, request.encodings) == (123_000_000, encodings.DECODABLE)
    cost = fetcher.transfer(new.digest)
    assert cost.received_bytes == server.sent_bytes < 1.2 * PART_BYTES
    assert cost.whole_bytes > 2 * PART_BYTES


def test_a_delta_that_is_cut_goes_on_from_its_last_byte(
    make: MakeFetcher, new: Built, server: FileServer, device: BlobStore
) -> None:
    server.plan = lambda path, number: (
        Fault(cut_after=300_000) if path.endswith(OLD_DIGEST) and number < 5 else NO_FAULT
    )
    fetcher = make()

    fetcher.fetch(new.digest)

    require_new(device, fetcher)
    assert asked_for(server, "patch")[1].startswith("bytes=300000-")
    assert fetcher.transfer(new.digest).received_bytes < 1.2 * PART_BYTES


@pytest.mark.parametrize("harm", [spoil, Path.unlink])
def test_a_base_that_the_disk_has_damaged_is_found_before_the_download(
    make: MakeFetcher,
    new: Built,
    server: FileServer,
    device: BlobStore,
    harm: Callable[[Path], None],
) -> None:
    warned: list[str] = []
    fetcher = make()
    harm(device.path(OLD_DIGEST))

    fetcher.fetch(new.digest, warn=warned.append)

    require_new(device, fetcher)
    assert asked_for(server, "patch") == []
    assert len(asked_for(server, "zstd")) == 3
    assert len(warned) == 1
    assert warned[0].startswith(f"patch of table.bin from {OLD_DIGEST[:12]} failed, fetched the w")
    assert f"base {OLD_DIGEST} on this disk: wanted" in warned[0]


def make_wrong(server: FileServer) -> None:
    """Replace the delta by another one, whose table fits it."""
    wrong = Recipe(OTHER_DIGEST, encodings.PATCH, OLD_DIGEST)
    made = server.encodings.get(wrong)
    table = msgspec.structs.replace(made.table, blob=NEW_DIGEST, size=len(NEW))
    scratch = server.store.scratch()
    (scratch / "data").write_bytes(b"".join(server.store.read(made.key)))
    (scratch / "parts").write_bytes(msgspec.json.encode(table))
    server.store.put_file(f"{PATCH.key}.data", scratch / "data")
    server.store.put_file(f"{PATCH.key}.parts", scratch / "parts")


@pytest.fixture
def lying(tmp_path: Path, place: Path) -> Iterator[FileServer]:
    """A registry whose delta is not one to the new file, though its table fits the bytes."""
    with FileServer(tmp_path / "lying").running() as running:
        for content in (OLD, NEW, OTHER):
            running.add(source(place, content))
        make_wrong(running)
        running.deltas[NEW_DIGEST] = PATCH
        yield running


def test_a_delta_that_was_made_wrong_costs_the_whole_once_and_is_told(
    make: MakeFetcher, new: Built, lying: FileServer, device: BlobStore
) -> None:
    warned: list[str] = []
    fetcher = make(ask=lying.answer)

    fetcher.fetch(new.digest, warn=warned.append)

    require_new(device, fetcher)
    ranges = asked_for(lying, "patch")
    assert len(set(ranges)) == len(ranges) > 0
    assert len(asked_for(lying, "zstd")) == 3
    assert [request.encodings for request in lying.asked][-1] == ("zstd",)
    assert len(warned) == 1
    assert "(exit code 1)" in warned[0]


def test_a_delta_that_failed_is_not_fetched_again_for_this_bundle(
    make: MakeFetcher, new: Built, lying: FileServer, device: BlobStore
) -> None:
    lying.plan = lambda path, _number: Fault(status=500) if path.endswith(NEW_DIGEST) else NO_FAULT
    with pytest.raises(LinkError, match="500"):
        make(ask=lying.answer).fetch(new.digest)
    lying.requests.clear()
    lying.asked.clear()
    lying.plan = lambda _path, _number: NO_FAULT

    fetcher = make(ask=lying.answer)
    fetcher.fetch(new.digest)

    require_new(device, fetcher)
    assert asked_for(lying, "patch") == []
    assert [request.encodings for request in lying.asked if NEW_DIGEST in request.blobs] == [
        ("zstd",)
    ]


def test_a_decoder_that_would_take_too_much_memory_is_ended(
    make: MakeFetcher, new: Built, device: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "DECODER_BYTES", 1 << 20)
    warned: list[str] = []
    fetcher = make(memory=lambda: 0)

    fetcher.fetch(new.digest, warn=warned.append)

    require_new(device, fetcher)
    assert len(warned) == 1


def test_a_part_of_one_delta_is_never_taken_for_one_of_another(
    make: MakeFetcher, new: Built, server: FileServer, device: BlobStore
) -> None:
    server.plan = lambda path, _number: (
        Fault(cut_after=500_000) if path.endswith(OLD_DIGEST) else NO_FAULT
    )
    with pytest.raises(FetchCancelledError):
        make().fetch(new.digest, cancelled=lambda: server.sent_bytes > 300_000)
    begun, _ = partfile.paths(make().work, NEW_DIGEST, "patch", OLD_DIGEST)
    assert begun.stat().st_size > 0
    device.put_bytes(OTHER)
    server.deltas[NEW_DIGEST] = FROM_OTHER
    server.requests.clear()

    fetcher = make()
    fetcher.fetch(new.digest)

    require_new(device, fetcher)
    assert asked_for(server, "patch")[0].startswith("bytes=0-")


def test_whoever_cancels_does_not_wait_for_the_decoder_which_is_nice(
    make: MakeFetcher, new: Built, server: FileServer, device: BlobStore
) -> None:
    fetcher = make()
    decoders: dict[psutil.Process, int] = {}

    def cancelled() -> bool:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):  # it has ended; it may be anybody's
                if "runtime.bundle.unpack" in child.cmdline():
                    decoders[child] = child.nice()
        return bool(decoders)

    with pytest.raises(FetchCancelledError):
        fetcher.fetch(new.digest, cancelled=cancelled)
    assert not device.has(NEW_DIGEST)
    assert [child.is_running() for child in decoders] == [False]
    assert list(decoders.values()) == [unpack.NICENESS]

    before = server.sent_bytes
    fetcher.fetch(new.digest)
    require_new(device, fetcher)
    assert server.sent_bytes - before < 10_000


@pytest.mark.parametrize(
    "change",
    [
        {"base": None},
        {"base": "../up"},
        {"encoding": "zstd"},
        {"encoding": "planes"},
        {"encoded_size": 1 << 40},
    ],
)
def test_an_offer_whose_base_does_not_fit_is_refused(
    make: MakeFetcher, new: Built, server: FileServer, change: dict[str, object]
) -> None:
    def answer(request: FetchRequest) -> FetchResponse:
        good = server.answer(request)
        bad = tuple(
            msgspec.structs.replace(offer, **change) if offer.base else offer
            for offer in good.offers
        )
        return msgspec.structs.replace(good, offers=bad)

    with pytest.raises(InvalidError, match=r"offer\."):
        make(ask=answer).fetch(new.digest)


def test_an_answer_without_room_for_all_is_asked_for_the_rest(
    make: MakeFetcher, server: FileServer, device: BlobStore, tmp_path: Path
) -> None:
    directory = write_bundle(tmp_path / "many", factor=7.0)
    for number in range(5):
        (directory / f"{number}.txt").write_text(str(number))
    built = server.add(directory)

    def answer(request: FetchRequest) -> FetchResponse:
        good = server.answer(request)
        return msgspec.structs.replace(good, offers=good.offers[:2])

    make(ask=answer).fetch(built.digest)

    assert all(device.has(blob) for blob in built.files)
    assert [len(request.blobs) for request in server.asked] == [1, 6, 4, 2]


def test_a_renewed_offer_may_be_another_delta_and_that_may_fail_too(
    make: MakeFetcher, new: Built, server: FileServer, device: BlobStore
) -> None:
    """What was a whole file when it began is fetched whole in the end."""
    warned: list[str] = []
    del server.deltas[NEW_DIGEST]

    def plan(path: str, _number: int) -> Fault:
        is_first = path.endswith(f"zstd/{NEW_DIGEST}") and NEW_DIGEST not in server.deltas
        server.deltas.update({NEW_DIGEST: FROM_OTHER} if is_first else {})
        return Fault(status=403) if is_first else NO_FAULT

    server.plan = plan
    fetcher = make()
    fetcher.fetch(new.digest, warn=warned.append)

    require_new(device, fetcher)
    assert len(warned) == 1
    assert f"base {OTHER_DIGEST} on this disk" in warned[0]


def test_an_older_registry_that_knows_nothing_of_deltas_serves(
    make: MakeFetcher, new: Built, server: FileServer, device: BlobStore
) -> None:
    """It ignores what it does not know, and its offers have neither base nor whole size."""
    server.deltas.clear()
    fetcher = make()

    fetcher.fetch(new.digest)

    require_new(device, fetcher)
    cost = fetcher.transfer(new.digest)
    assert cost.whole_bytes <= cost.received_bytes < cost.whole_bytes + 10_000


def test_memory_for_decoding_is_what_is_free_less_a_reserve(tmp_path: Path) -> None:
    kept = room.RESERVE_BYTES + room.DECODER_BYTES
    (tmp_path / "proc/self").mkdir(parents=True)
    assert room.for_decoding(tmp_path) == 0

    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  1048576 kB\n")
    assert room.for_decoding(tmp_path) == (1 << 30) - kept

    (tmp_path / "proc/self/cgroup").write_text("1:name=x:/y\n0::/system.slice/agent.service\n")
    group = tmp_path / "sys/fs/cgroup/system.slice/agent.service"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("100\n")
    assert room.for_decoding(tmp_path) == (1 << 30) - kept
    (group / "memory.max").write_text(f"{kept + 1100}\n")
    assert room.for_decoding(tmp_path) == 1000
    (group / "memory.max").write_text("1000\n")
    assert room.for_decoding(tmp_path) == 0


def test_a_decoder_says_why_it_failed_and_leaves_nothing(
    server: FileServer, device: BlobStore, tmp_path: Path
) -> None:
    encoded = tmp_path / "encoded"
    encoded.write_bytes(b"PHDLxxxx")
    table = server.encodings.get(PATCH).table

    with pytest.raises(IntegrityError, match="exit code 1") as caught:
        unpack.unpack(
            table, encoded, device, base=OLD_DIGEST, memory_bytes=1 << 30, check=lambda: None
        )

    assert f"blob {NEW_DIGEST} as patch" in str(caught.value)
    assert list(device.digests()) == []
