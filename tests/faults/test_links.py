"""Downloads through bad lines: a TCP proxy stands for each; times are scaled down, shapes not."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent.bundles.fetch import Fetcher
from runtime.bundle.blobs import BlobStore
from runtime.bundle.build import Built
from runtime.bundle.parts import PART_BYTES
from runtime.errors import LinkError
from runtime.messages import FetchRequest, FetchResponse
from runtime.retry import Backoff
from tests.support import lines
from tests.support.bundle_sources import write_bundle
from tests.support.httpfiles import FileServer
from tests.support.lines import Line

SCALE = 0.1
SATELLITE = {
    "delay_s": 0.3 * SCALE,
    "jitter_s": 0.05 * SCALE,
    "stall": 0.02,
    "stall_s": 1.0 * SCALE,
}
THIRD_GENERATION = {"delay_s": 0.05 * SCALE, "jitter_s": 0.01 * SCALE}
ON_AND_OFF = {"period_s": 300 / 600}
"""Five minutes up, five minutes down, and so on: a six-hundredth of it."""
BIG = random.Random(21).randbytes(3 * PART_BYTES + 1000)
CUTS = 20
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    with FileServer(tmp_path_factory.mktemp("registry")).running() as running:
        yield running


@pytest.fixture(scope="module")
def built(server: FileServer, tmp_path_factory: pytest.TempPathFactory) -> Built:
    source = write_bundle(tmp_path_factory.mktemp("source") / "bundle")
    (source / "table.bin").write_bytes(BIG)
    made = server.add(source)
    for digest in (made.digest, *made.files):
        server.offer(digest)
    return made


def fetcher_behind(line: Line, server: FileServer, place: Path) -> Fetcher:
    """Return a device whose downloads go through a line; its questions do not."""

    def ask(request: FetchRequest) -> FetchResponse:
        def moved(url: str) -> str:
            return url.replace(server.url, f"http://127.0.0.1:{line.port}")

        offers = tuple(
            msgspec.structs.replace(one, url=moved(one.url), parts_url=moved(one.parts_url))
            for one in server.answer(request).offers
        )
        return FetchResponse(request.id, offers)

    return Fetcher(
        BlobStore(place / "blobs"),
        place / "work",
        ask,
        None,
        reserve_bytes=0,
        timeout_s=5.0,
        backoff=Backoff(first_s=0.2, most_s=1.0),
    )


def bring(fetcher: Fetcher, built: Built) -> None:
    """Fetch as the agent does: whoever gave up begins again where it was."""
    deadline = time.monotonic() + PATIENCE_S

    def ended() -> bool:
        try:
            fetcher.fetch(built.digest)
        except LinkError:
            assert time.monotonic() < deadline
            return False
        return True

    while not ended():
        pass


def require_all(built: Built, fetcher: Fetcher) -> None:
    assert set(fetcher.blobs.digests()) == {built.digest, *built.files}
    for digest in fetcher.blobs.digests():
        fetcher.blobs.check(digest)


@pytest.mark.parametrize(
    ("manner", "bytes_per_s"),
    [(SATELLITE, None), (THIRD_GENERATION, None), (ON_AND_OFF, 4e6)],
    ids=["satellite", "3g", "five-minutes-on-five-off"],
)
def test_a_download_ends_over_every_kind_of_bad_line(
    server: FileServer,
    built: Built,
    tmp_path: Path,
    manner: dict[str, float],
    bytes_per_s: float | None,
) -> None:
    server.bytes_per_s = bytes_per_s
    with lines.line(int(server.url.rpartition(":")[2]), **manner) as line:
        fetcher = fetcher_behind(line, server, tmp_path)
        bring(fetcher, built)
    server.bytes_per_s = None

    require_all(built, fetcher)
    assert line.to_client < 1.05 * (len(BIG) + 20_000)


def test_twenty_cut_connections_cost_next_to_nothing(
    server: FileServer, built: Built, tmp_path: Path
) -> None:
    """Complaint: a download on a bad line never ends, or begins anew after each cut."""
    cuts = sorted(random.Random(22).sample(range(len(BIG)), CUTS))
    with lines.line(int(server.url.rpartition(":")[2]), cuts=cuts) as line:
        fetcher = fetcher_behind(line, server, tmp_path)
        fetcher.fetch(built.digest)

    require_all(built, fetcher)
    assert line.connections > CUTS
    assert line.to_client <= 1.05 * len(BIG)
