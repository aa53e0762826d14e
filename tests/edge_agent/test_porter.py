"""What the porter tells the owner thread of a download: its cost, and what did not work."""

import queue
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.storage.encodings import Recipe
from edge_agent.bundles.fetch import Fetcher
from edge_agent.bundles.porter import Porter
from edge_agent.bundles.releases import Releases
from edge_agent.mind import effects, events
from runtime import digests
from runtime.bundle import encodings
from runtime.bundle.build import Built
from runtime.messages import Phase, Transfer
from tests.support.bundle_sources import write_checked_bundle
from tests.support.httpfiles import FileServer
from tests.support.worlds import World, digest, spec

SHARED = random.Random(1).randbytes(100_000)
"""Of a file that versions share, but for its end."""


class Desk:
    """A porter at work, and what it tells."""

    def __init__(self, place: Path, server: FileServer) -> None:
        self.releases = Releases(place / "device")
        self.server, self.place = server, place
        fetcher = Fetcher(
            self.releases.blobs,
            self.releases.downloads,
            server.answer,
            None,
            reserve_bytes=0,
            held=self.releases.held,
        )
        self.told: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.porter = Porter(self.releases, fetcher, self.told.put)
        self.jobs = 0

    def add(self, number: int) -> Built:
        """Serve a version, as a delta to the one before."""
        source = write_checked_bundle(self.place / f"source-{number}")
        (source / "table.bin").write_bytes(content(number))
        old, new = digests.of_bytes(content(number - 1)), digests.of_bytes(content(number))
        if number > 1:
            self.server.deltas[new] = Recipe(new, encodings.PATCH, old)
        return self.server.add(source)

    def bring(self, built: Built) -> tuple[list[str], Transfer]:
        """Fetch a version and lay it out; return what did not work, and what it cost."""
        troubles = []
        self.jobs += 1
        self.porter.add(effects.Fetch("m", built.digest, self.jobs))
        self.porter.add(effects.Verify("m", built.digest, self.jobs))
        cost = Transfer(0, 0)
        while not isinstance(said := self.told.get(timeout=110), events.Verified):
            assert not isinstance(said, events.JobFailed), said
            if isinstance(said, events.FetchTrouble):
                troubles.append(said.text)
            if isinstance(said, events.Fetched) and said.transfer is not None:
                cost = said.transfer
        return troubles, cost


def content(number: int) -> bytes:
    return SHARED + str(number).encode()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with FileServer(tmp_path / "registry").running() as server:
        made = Desk(tmp_path, server)
        made.porter.start()
        yield made
        made.porter.stop(10)


def test_an_update_costs_what_changed(desk: Desk) -> None:
    first, second = desk.add(1), desk.add(2)

    whole_troubles, whole = desk.bring(first)
    troubles, cost = desk.bring(second)

    assert whole_troubles == troubles == []
    assert whole.received_bytes > whole.whole_bytes > len(SHARED)
    assert cost.received_bytes < 0.1 * cost.whole_bytes
    assert cost.whole_bytes > len(SHARED)


def test_a_failed_delta_is_a_trouble_until_another_bundle_is_fetched(desk: Desk) -> None:
    versions = [desk.add(number) for number in (1, 2, 3)]
    desk.bring(versions[0])
    base = desk.releases.blobs.path(digests.of_bytes(content(1)))
    base.chmod(0o600)
    base.write_bytes(content(1)[::-1])

    failed, cost = desk.bring(versions[1])
    again, _ = desk.bring(versions[1])
    after, _ = desk.bring(versions[2])

    assert len(failed) == 1
    assert "of table.bin" in failed[0]
    assert cost.received_bytes > cost.whole_bytes > len(SHARED)
    assert again == []
    assert after == [""]


def test_what_a_device_holds_is_told_newest_first(desk: Desk) -> None:
    versions = [desk.add(number) for number in (1, 2, 3)]
    for version in versions:
        desk.bring(version)

    assert desk.releases.held() == [version.digest for version in reversed(versions)]
    asked = [request for request in desk.server.asked if request.bundle == versions[2].digest]
    assert {request.held for request in asked} == {(versions[1].digest, versions[0].digest)}


def test_the_cost_of_the_wanted_bundle_is_reported_and_that_of_no_other() -> None:
    world = World()
    world.want(spec("a"))
    assert world.report().transfer is None
    world.jobs.clear()

    world.tell(events.Fetched("m", world.module().job, Transfer(10, 100)))
    assert world.report().phase is Phase.VERIFYING
    assert world.report().transfer == Transfer(10, 100)

    world.want(spec("a", attempt=1))
    assert world.report().transfer == Transfer(10, 100)
    world.want(spec("b"))
    assert world.report().transfer is None
    assert world.report().bundle == digest("b")
