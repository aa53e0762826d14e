import itertools
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent.bundles import partfile, patience
from edge_agent.bundles.fetch import FetchCancelledError, Fetcher
from edge_agent.pace import Pace
from runtime import digests, messages
from runtime.bundle.blobs import BlobStore
from runtime.bundle.build import Built
from runtime.bundle.parts import PART_BYTES
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError, LinkError, SpaceError
from runtime.messages import FetchRequest, FetchResponse, Offer
from runtime.retry import Backoff
from tests.support.bundle_sources import write_bundle
from tests.support.httpfiles import NO_FAULT, Fault, FileServer, Plan

BIG = random.Random(2).randbytes(3 * PART_BYTES + 1000)
BIG_DIGEST = digests.of_bytes(BIG)
MakeFetcher = Callable[..., Fetcher]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Built]:
    """A bundle of three files, one of them of four parts, encoded already."""
    place = tmp_path_factory.mktemp("registry")
    source = write_bundle(place / "source")
    (source / "table.bin").write_bytes(BIG)
    prepared = FileServer(place)
    built = prepared.add(source)
    prepared.answer(FetchRequest("", (built.digest, *built.files), ("zstd",)))
    prepared.close()
    return place, built


@pytest.fixture
def server(registry: tuple[Path, Built]) -> Iterator[FileServer]:
    with FileServer(registry[0]).running() as running:
        yield running


@pytest.fixture
def built(registry: tuple[Path, Built]) -> Built:
    return registry[1]


@pytest.fixture
def device(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "device" / "blobs")


@pytest.fixture
def make(tmp_path: Path, server: FileServer, device: BlobStore) -> MakeFetcher:
    def fetcher(**changes: object) -> Fetcher:
        settings: dict[str, object] = {
            "ask": server.answer,
            "ca_file": None,
            "reserve_bytes": 0,
            "backoff": Backoff(first_s=0.001, most_s=0.01),
        }
        return Fetcher(device, tmp_path / "device" / "work", **(settings | changes))  # type: ignore[arg-type]  # checked by running

    return fetcher


def of_big(plan: Callable[[int], Fault]) -> Plan:
    """Return a plan for the n-th request for bytes of the big file; all else goes well."""
    numbers = itertools.count()

    def whole(path: str, _number: int) -> Fault:
        return plan(next(numbers)) if path.endswith(BIG_DIGEST) else NO_FAULT

    return whole


def ranges(server: FileServer) -> list[str]:
    """Return what was asked of the big file."""
    return [asked for path, asked in server.requests if path.endswith(BIG_DIGEST)]


def require_all(built: Built, device: BlobStore) -> None:
    assert set(device.digests()) == {built.digest, *built.files}
    for digest in device.digests():
        device.check(digest)


def test_a_bundle_arrives_whole_and_leaves_no_trace_of_the_journey(
    make: MakeFetcher, built: Built, device: BlobStore
) -> None:
    fetcher = make()

    assert fetcher.fetch(built.digest) == built.index
    require_all(built, device)
    assert list(fetcher.work.iterdir()) == []


def test_what_is_here_is_not_asked_for(
    make: MakeFetcher, built: Built, server: FileServer, tmp_path: Path
) -> None:
    make().fetch(built.digest)
    server.requests.clear()
    server.asked.clear()
    make().fetch(built.digest)
    assert (server.asked, server.requests) == ([], [])

    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "table.bin").write_bytes(BIG)
    newer = server.add(write_bundle(tmp_path / "newer", factor=3.0))
    make().fetch(newer.digest)

    model = next(entry.sha256 for entry in newer.index.files if entry.path == "model.onnx")
    assert [request.blobs for request in server.asked] == [(newer.digest,), (model,)]


def test_progress_grows_to_the_total(make: MakeFetcher, built: Built) -> None:
    seen: list[tuple[int, int]] = []

    make().fetch(built.digest, progress=lambda done, total: seen.append((done, total)))

    total = sum(entry.size for entry in built.index.files)
    assert {one for _, one in seen} == {total}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (total, total)


def test_offers_are_asked_for_in_groups(
    make: MakeFetcher,
    server: FileServer,
    tmp_path: Path,
    device: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = write_bundle(tmp_path / "many")
    for number in range(5):
        (source / f"{number}.txt").write_text(str(number))
    built = server.add(source)
    monkeypatch.setattr(messages, "MAX_OFFER_BLOBS", 3)

    make().fetch(built.digest)

    assert [len(request.blobs) for request in server.asked] == [1, 3, 3, 1]
    require_all(built, device)


def test_a_cut_connection_goes_on_from_its_last_byte(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore
) -> None:
    server.plan = of_big(lambda number: Fault(cut_after=300_000) if number < 3 else NO_FAULT)

    make().fetch(built.digest)

    assert ranges(server)[:4] == [
        "bytes=0-1048575",
        "bytes=300000-1048575",
        "bytes=600000-1048575",
        "bytes=900000-1048575",
    ]
    require_all(built, device)


def test_an_idle_connection_that_was_closed_is_no_trouble(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore
) -> None:
    server.plan = lambda _path, _number: Fault(close=True)

    make(backoff=Backoff(first_s=1e9, most_s=1e9)).fetch(built.digest)

    require_all(built, device)


def test_a_server_in_trouble_is_asked_again(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore
) -> None:
    server.plan = lambda _path, number: Fault(status=503 if number % 3 else 429)
    with pytest.raises(LinkError, match="503 Service Unavailable"):
        make().fetch(built.digest)
    assert len(server.requests) == patience.MOST_FAILURES

    server.plan = lambda _path, number: Fault(status=500) if number % 3 else NO_FAULT
    make().fetch(built.digest)
    require_all(built, device)


def test_a_missing_file_is_asked_for_once(
    make: MakeFetcher, built: Built, server: FileServer
) -> None:
    """Not for ever, at the cost of somebody's data volume."""
    server.plan = of_big(lambda _number: Fault(status=404))

    with pytest.raises(InvalidError, match="404 Not Found") as caught:
        make().fetch(built.digest)
    assert "secret" not in str(caught.value)
    assert len(ranges(server)) == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(status=302), "302 Found"),
        (Fault(status=416), "416 R"),
        (Fault(ignore_range=True), "must honour HTTP Range"),
        (Fault(shift_range=True), "send the range that was asked for"),
    ],
)
def test_a_server_that_does_not_serve_ranges_is_final(
    make: MakeFetcher, built: Built, server: FileServer, fault: Fault, says: str
) -> None:
    server.plan = of_big(lambda number: fault if number == 1 else NO_FAULT)

    with pytest.raises(InvalidError, match=says):
        make().fetch(built.digest)


def test_a_whole_file_serves_for_its_first_part(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore
) -> None:
    server.plan = of_big(lambda number: Fault(ignore_range=number == 0))

    make().fetch(built.digest)

    require_all(built, device)
    assert ranges(server)[1].startswith("bytes=1048576-")


def test_an_expired_url_is_renewed(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore
) -> None:
    server.plan = of_big(lambda number: Fault(status=403) if number == 2 else NO_FAULT)

    make(backoff=Backoff(first_s=1e9, most_s=1e9)).fetch(built.digest)

    assert server.asked[-1].blobs == (BIG_DIGEST,)
    assert len(ranges(server)) == 5
    require_all(built, device)


def test_urls_that_never_work_are_not_renewed_for_ever(
    make: MakeFetcher, built: Built, server: FileServer
) -> None:
    server.plan = lambda _path, _number: Fault(status=403)

    with pytest.raises(LinkError, match="403 Forbidden"):
        make().fetch(built.digest)
    assert len(server.requests) <= patience.MOST_FAILURES + 1


@pytest.mark.parametrize("fault", [Fault(flip_byte=5), Fault(flip_byte=-1), Fault(drop_bytes=1)])
def test_a_damaged_part_is_fetched_again(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore, fault: Fault
) -> None:
    server.plan = of_big(lambda number: fault if number in {0, 3} else NO_FAULT)

    make().fetch(built.digest)

    require_all(built, device)
    assert len(ranges(server)) == 6


def test_a_part_that_is_always_wrong_is_given_up(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore
) -> None:
    server.plan = of_big(lambda number: Fault(flip_byte=7) if number >= 2 else NO_FAULT)

    with pytest.raises(IntegrityError, match=f"part 2 of blob {BIG_DIGEST}, fetched 3 times"):
        make().fetch(built.digest)
    assert len(ranges(server)) == 5
    assert not device.has(BIG_DIGEST)


def test_wrong_bytes_between_cuts_are_counted_too(
    make: MakeFetcher, built: Built, server: FileServer
) -> None:
    """Else a hostile line could have the same part fetched without end."""
    server.plan = of_big(lambda _number: Fault(flip_byte=0, cut_after=600_000))

    with pytest.raises(IntegrityError, match="fetched 3 times"):
        make().fetch(built.digest)
    assert len(ranges(server)) == 6


def test_a_table_that_was_not_offered_is_refused(
    make: MakeFetcher, built: Built, server: FileServer
) -> None:
    server.plan = lambda path, _number: Fault(flip_byte=9) if path.endswith("parts") else NO_FAULT

    with pytest.raises(IntegrityError, match="part table"):
        make().fetch(built.digest)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"size": 1 << 40}, "offer.size"),
        ({"size": -1}, "offer.size"),
        ({"encoded_size": 1 << 40}, "offer.encoded_size"),
        ({"encoding": "lzma"}, "offer.encoding"),
        ({"url": "http://192.0.2.1/blob"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "http://127.0.0.1/" + "x" * 5000}, "offer.url"),
        ({"parts_url": "http://127.0.0.1/\r\nHost: x"}, "url"),
        ({"encoded_size": 100}, "table"),
    ],
)
def test_an_offer_that_cannot_be_meant_is_refused(
    make: MakeFetcher, built: Built, server: FileServer, change: dict[str, object], field: str
) -> None:
    def answer(request: FetchRequest) -> FetchResponse:
        good = server.answer(request)
        bad = tuple(msgspec.structs.replace(offer, **change) for offer in good.offers)
        return msgspec.structs.replace(good, offers=bad)

    with pytest.raises(InvalidError) as caught:
        make(ask=answer).fetch(built.digest)
    assert caught.value.field == field


def test_a_registry_that_says_no_is_believed(make: MakeFetcher, built: Built) -> None:
    def answer(request: FetchRequest) -> FetchResponse:
        return FetchResponse(request.id, error="unknown bundle", retryable=False)

    with pytest.raises(InvalidError, match="unknown bundle"):
        make(ask=answer).fetch(built.digest)


def test_a_registry_that_says_later_is_asked_again(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore
) -> None:
    def no_answer(_request: FetchRequest) -> FetchResponse:
        raise LinkError("no answer within 10 s")

    def busy(request: FetchRequest) -> FetchResponse:
        return FetchResponse(request.id, error="busy")

    def empty(request: FetchRequest) -> FetchResponse:
        return FetchResponse(request.id)

    answers = iter((no_answer, busy, empty))

    def answer(request: FetchRequest) -> FetchResponse:
        return next(answers, server.answer)(request)

    make(ask=answer).fetch(built.digest)

    require_all(built, device)


def test_cancelling_ends_it_and_keeps_what_came(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore
) -> None:
    with pytest.raises(FetchCancelledError):
        make().fetch(built.digest, cancelled=lambda: server.sent_bytes > 2 * PART_BYTES)
    so_far = server.sent_bytes

    make().fetch(built.digest)

    require_all(built, device)
    assert server.sent_bytes < so_far + 2 * PART_BYTES + 100_000


def test_cancelling_ends_a_long_wait(make: MakeFetcher, built: Built, server: FileServer) -> None:
    server.plan = lambda _path, _number: Fault(status=500)

    with pytest.raises(FetchCancelledError):
        make(backoff=Backoff(first_s=1e9, most_s=1e9)).fetch(
            built.digest, cancelled=lambda: bool(server.requests)
        )


def test_two_that_fetch_the_same_at_once_download_it_once(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore
) -> None:
    fetcher = make()
    threads = [threading.Thread(target=fetcher.fetch, args=(built.digest,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    require_all(built, device)
    assert len(ranges(server)) == 4


def test_too_little_room_is_said_before_the_download(
    make: MakeFetcher, built: Built, server: FileServer
) -> None:
    with pytest.raises(SpaceError, match="make room"):
        make(reserve_bytes=1 << 60).fetch(built.digest)
    assert server.requests == []


def test_what_the_disk_damaged_is_fetched_again(
    make: MakeFetcher, built: Built, device: BlobStore
) -> None:
    make().fetch(built.digest)
    for digest, damage in ((built.digest, b"{}"), (BIG_DIGEST, BIG[:-1])):
        device.path(digest).chmod(0o600)
        device.path(digest).write_bytes(damage)

    make().fetch(built.digest)

    require_all(built, device)


def test_a_part_that_the_disk_damaged_is_found_and_fetched_alone(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore
) -> None:
    server.plan = of_big(lambda number: Fault(status=404) if number == 3 else NO_FAULT)
    with pytest.raises(InvalidError):
        make().fetch(built.digest)
    server.plan = lambda _path, _number: NO_FAULT
    part_path, bitmap_path = partfile.paths(make().work, BIG_DIGEST, "zstd")
    assert bitmap_path.exists()
    with part_path.open("r+b") as file:
        file.seek(PART_BYTES + 5)
        file.write(b"damage")

    with pytest.raises(IntegrityError):
        make().fetch(built.digest)
    server.requests.clear()
    make().fetch(built.digest)

    assert ranges(server) == [f"bytes={PART_BYTES}-{2 * PART_BYTES - 1}"]
    require_all(built, device)


def test_a_registry_whose_parts_are_not_the_blob_costs_one_download(
    make: MakeFetcher, tmp_path: Path
) -> None:
    with FileServer(tmp_path / "lying").running() as lying:
        source = write_bundle(tmp_path / "source")
        (source / "table.bin").write_bytes(BIG)
        built = lying.add(source)
        with lying.blobs.local(BIG_DIGEST) as path:
            path.chmod(0o600)
            path.write_bytes(BIG[::-1])
        fetcher = make(ask=lying.answer)
        with pytest.raises(IntegrityError, match=f"wanted {BIG_DIGEST}"):
            fetcher.fetch(built.digest)
        lying.requests.clear()
        with pytest.raises(IntegrityError, match=f"wanted {BIG_DIGEST}"):
            fetcher.fetch(built.digest)

    assert ranges(lying) == []


def test_only_the_downloads_that_are_wanted_are_kept(
    make: MakeFetcher, built: Built, server: FileServer
) -> None:
    server.plan = of_big(lambda number: Fault(status=404) if number == 2 else NO_FAULT)
    fetcher = make()
    with pytest.raises(InvalidError):
        fetcher.fetch(built.digest)
    before = sorted(fetcher.work.iterdir())

    fetcher.retain([built.digest])
    assert sorted(fetcher.work.iterdir()) == before != []
    fetcher.retain([])
    assert list(fetcher.work.iterdir()) == []


def test_a_download_that_runs_is_discarded_when_it_ends(
    make: MakeFetcher, built: Built, server: FileServer
) -> None:
    fetcher = make()

    def cancelled() -> bool:
        if server.sent_bytes > PART_BYTES:
            fetcher.retain([])
        return server.sent_bytes > PART_BYTES

    with pytest.raises(FetchCancelledError):
        fetcher.fetch(built.digest, cancelled=cancelled)
    assert list(fetcher.work.iterdir()) == []


def test_a_capped_download_keeps_to_its_rate(make: MakeFetcher, built: Built) -> None:
    started = time.monotonic()

    pace = Pace(8_000_000)
    make(pace=pace).fetch(built.digest)

    assert time.monotonic() - started >= (len(BIG) - pace.most) / 8_000_000


def test_offers_may_leave_the_host_to_the_device(
    make: MakeFetcher, built: Built, server: FileServer, device: BlobStore
) -> None:
    def without_host(offer: Offer) -> Offer:
        return msgspec.structs.replace(
            offer,
            url=offer.url.removeprefix(server.url),
            parts_url=offer.parts_url.removeprefix(server.url),
        )

    def answer(request: FetchRequest) -> FetchResponse:
        offers = map(without_host, server.answer(request).offers)
        return FetchResponse(request.id, tuple(offers))

    make(ask=answer, base_url=server.url).fetch(built.digest)

    require_all(built, device)


def test_a_silent_server_is_given_up(make: MakeFetcher, built: Built, server: FileServer) -> None:
    hang = threading.Event()

    def plan(_path: str, _number: int) -> Fault:
        hang.wait(5)
        return NO_FAULT

    server.plan = plan
    with pytest.raises(LinkError, match="timed out"):
        make(timeout_s=0.02).fetch(built.digest)
    hang.set()


def test_fetching_needs_no_heavy_library() -> None:
    """The agent's supervisor has a budget of memory."""
    heavy = "numpy onnxruntime cryptography uvicorn pydantic yaml asyncio PIL httpx"
    code = (
        "import sys, edge_agent.bundles.fetch;"
        f"print([m for m in '{heavy}'.split() if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_an_unknown_blob_is_named(make: MakeFetcher) -> None:
    nobody = Digest("0" * 64)
    with pytest.raises(LinkError, match=f"the registry offers no blob {nobody}"):
        make(ask=lambda request: FetchResponse(request.id)).fetch(nobody)
