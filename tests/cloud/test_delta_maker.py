"""Deltas are there before devices ask for them, and never more than the cache may hold."""

import contextlib
import itertools
import queue
import random
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlmodel import select

from cloud import tables
from cloud.deltas import maker as delta_maker
from cloud.deltas import pack
from cloud.deltas.maker import Maker
from cloud.messaging.responder import Responder
from cloud.services import Services
from cloud.storage.encodings import AUTO, Recipe
from runtime.bundle import encodings
from runtime.bundle.blobs import BlobStore
from runtime.digests import Digest
from runtime.errors import IntegrityError, SpaceError
from runtime.messages import FetchRequest, Offer
from runtime.topics import DeviceId
from tests.support import deltas, powercuts, registries, registry_rows
from tests.support.registries import SetClock, Stores

DEVICES = ("dev-a", "dev-b", "dev-c")
NEVER = threading.Event()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with registry_rows.services(tmp_path / "data") as opened:
        for device in DEVICES:
            registry_rows.add_device(opened, device)
        yield opened


@dataclass
class Bench:
    """A registry's maker, what it encoded, and a place for bundles."""

    services: Services
    place: Path
    encoded: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def push(self, data: bytes | None = None) -> tables.Version:
        """Register the next version."""
        number = next(self.numbers)
        content = deltas.content(number) if data is None else data
        return deltas.push(self.services, self.place / f"source-{number}", content)

    def maker(self, failure: Exception | None = None) -> Maker:
        """Return a maker that notes what it encodes, in this process; or fails at deltas."""
        made = Maker(self.services)

        def encode(encoding: str, source: Path, target: Path, *, base: Path | None = None) -> None:
            self.encoded.append(encoding)
            if base is not None and failure is not None:
                raise failure
            pack.encode(encoding, source, target, base=base)

        made._encode = encode
        return made

    def work(self) -> None:
        self.maker().work(NEVER)

    def ready(self, version: tables.Version, base: tables.Version) -> set[str]:
        """Return the encodings in which the file of a version can be had, from that of another."""
        blob, old = (deltas.blob(self.services, one) for one in (version, base))
        found = (Recipe(blob, encoding, old) for encoding in encodings.BUILDING)
        return {one.encoding for one in found if self.services.encodings.ready(one)}

    def ask(self, version: tables.Version, *held: tables.Version, memory: int = 1 << 30) -> Offer:
        """Return what a device is offered for the file of a version that it shall run."""
        blob = deltas.blob(self.services, version)
        request = FetchRequest(
            "r1",
            (blob,),
            encodings.DECODABLE,
            bundle=Digest(version.bundle),
            held=tuple(Digest(one.bundle) for one in held),
            memory_bytes=memory,
        )
        responder = Responder(
            self.services,
            queue.Queue(),
            base_url="https://registry.test",
            ack=lambda _message: None,
            tell=lambda _device, _response: None,
        )
        response = responder.answer(DeviceId("dev-a"), request)
        assert response.error == ""
        (offer,) = response.offers
        return offer

    def states(self) -> dict[str, str]:
        """Return the state of every delta, by its encoding."""
        with self.services.reading() as session:
            rows = session.exec(select(tables.Encoding).where(tables.Encoding.base != "")).all()
            return {row.encoding: row.state for row in rows}


@pytest.fixture
def bench(services: Services, tmp_path: Path) -> Bench:
    return Bench(services, tmp_path)


def test_a_new_version_has_its_delta_before_anybody_deploys_it(bench: Bench) -> None:
    first = bench.push()
    registry_rows.deploy(bench.services, "scale")
    deltas.report(bench.services, "dev-a", first)
    second = bench.push()

    bench.work()

    assert bench.ready(second, first)
    registry_rows.deploy(bench.services, "scale")
    offer = bench.ask(second, first)
    assert offer.base == deltas.blob(bench.services, first)
    assert offer.encoded_size < 0.05 * offer.whole_size
    assert f"base={offer.base}&" in offer.url
    assert f"base={offer.base}&" in offer.parts_url


def test_what_nobody_runs_gets_no_delta(bench: Bench) -> None:
    first, second = bench.push(), bench.push()

    bench.work()

    assert not bench.ready(second, first)
    assert set(bench.encoded) <= {encodings.PLANES}


def test_every_base_that_the_fleet_runs_gets_a_delta(bench: Bench) -> None:
    first, second = bench.push(), bench.push()
    deltas.report(bench.services, "dev-a", first)
    deltas.report(bench.services, "dev-b", second)
    deltas.report(bench.services, "dev-c", second)
    third = bench.push()
    registry_rows.deploy(bench.services, "scale")

    bench.work()

    assert bench.ready(third, first)
    assert bench.ready(third, second)
    assert bench.ask(third, first).base == deltas.blob(bench.services, first)
    assert bench.ask(third, second).base == deltas.blob(bench.services, second)
    assert bench.ask(third).base is None


def test_no_delta_is_made_twice(bench: Bench) -> None:
    first = bench.push()
    deltas.report(bench.services, "dev-a", first)
    bench.push()
    bench.work()
    before = list(bench.encoded)

    bench.work()

    assert bench.encoded == before
    assert len(set(before)) == len(before)


def test_a_delta_that_saves_nothing_is_not_kept_and_not_tried_again(bench: Bench) -> None:
    first = bench.push()
    deltas.report(bench.services, "dev-a", first)
    second = bench.push(random.Random(0).randbytes(60_000))
    bench.work()
    tried = len(bench.encoded)

    bench.work()

    assert bench.ready(second, first) == set()
    assert set(bench.states().values()) == {"useless"}
    assert len(bench.encoded) == tried
    registry_rows.deploy(bench.services, "scale")
    assert bench.ask(second, first).base is None
    assert bench.services.wishes.take_wanted() == {}


def test_a_pair_that_fails_is_tried_a_few_times_and_not_for_ever(
    bench: Bench, services: Services
) -> None:
    first = bench.push()
    deltas.report(services, "dev-a", first)
    bench.push()
    broken = bench.maker(IntegrityError("encoder", wanted="sense", got="nonsense"))
    assert isinstance(services.clock, SetClock)
    tries = []
    for _ in range(6):
        broken.work(NEVER)
        tries.append(bench.encoded.count(AUTO))
        services.clock.at += 10 * delta_maker.AGAIN_S

    assert tries == [1, 2, 3, 3, 3, 3]
    with services.reading() as session:
        row = session.exec(select(tables.Encoding).where(tables.Encoding.state == "failed")).first()
        assert row is not None
        assert "wanted sense" in row.reason


def test_a_process_that_dies_of_a_pair_does_not_die_of_it_for_ever(bench: Bench) -> None:
    first = bench.push()
    deltas.report(bench.services, "dev-a", first)
    bench.push()
    for _ in range(2 * delta_maker.MOST_TRIES + 2):
        dying = bench.maker(KeyboardInterrupt())  # type: ignore[arg-type]  # nothing catches it
        try:
            dying.work(NEVER)
        except KeyboardInterrupt:
            continue

    assert bench.encoded.count(AUTO) == delta_maker.MOST_TRIES


def test_a_full_disk_is_not_the_pairs_fault(bench: Bench) -> None:
    first = bench.push()
    deltas.report(bench.services, "dev-a", first)
    second = bench.push()
    full = bench.maker(SpaceError("/data", needed_bytes=2, free_bytes=1))
    for _ in range(2 * delta_maker.MOST_TRIES):
        with pytest.raises(SpaceError):
            full.work(NEVER)

    bench.work()

    assert bench.ready(second, first)


def test_a_power_cut_leaves_what_the_next_start_goes_on_from(tmp_path: Path) -> None:
    """At one durable write of each seven: the store's own tests cut at every one."""
    with registry_rows.services(tmp_path / "data") as services:
        registry_rows.add_device(services, "dev-a")
        bench = Bench(services, tmp_path)
        first = bench.push()
        deltas.report(services, "dev-a", first)
        second = bench.push()
        registry_rows.deploy(services, "scale")
    for steps in itertools.count(0, 7):
        data = shutil.copytree(tmp_path / "data", tmp_path / f"data-{steps}")
        with registry_rows.services(data) as services, powercuts.after(steps) as counted:
            Bench(services, tmp_path).work()
        with registry_rows.services(data) as services:
            again = Bench(services, tmp_path)
            again.work()
            require_delta(services, again.ask(second, first), tmp_path / f"device-{steps}")
        if counted.seen < steps:
            break
    assert steps > 20


def require_delta(services: Services, offer: Offer, device: Path) -> None:
    """Fail unless an offer is of a delta that unfolds to its blob."""
    assert offer.base is not None
    made = services.encodings.get(Recipe(offer.blob, offer.encoding, offer.base))
    target = BlobStore(device)
    with services.store.local(made.key) as file, services.blobs.local(offer.base) as old:
        encodings.decode(offer.encoding, file, target, size=offer.size, sha256=offer.blob, base=old)
    target.check(offer.blob)


def test_a_device_whose_base_nobody_thought_of_gets_the_whole_at_once_and_a_delta_next_time(
    bench: Bench,
) -> None:
    first, second = bench.push(), bench.push()
    registry_rows.deploy(bench.services, "scale")
    assert bench.ask(second, first).base is None
    assert bench.services.wishes.woken.is_set()

    bench.work()

    assert bench.ask(second, first).base == deltas.blob(bench.services, first)


def test_a_device_with_too_little_memory_gets_the_whole(bench: Bench) -> None:
    first, second = bench.push(), bench.push()
    deltas.report(bench.services, "dev-a", first)
    registry_rows.deploy(bench.services, "scale")
    bench.work()

    assert bench.ask(second, first, memory=1000).encoding == "zstd"
    assert bench.ask(second, first, memory=64 << 20).base is not None


def test_a_delta_that_the_store_has_lost_is_not_offered_and_made_again(
    bench: Bench, services: Services
) -> None:
    first, second = bench.push(), bench.push()
    deltas.report(services, "dev-a", first)
    registry_rows.deploy(services, "scale")
    bench.work()
    lost = bench.ask(second, first)
    services.encodings.delete(Recipe(lost.blob, lost.encoding, lost.base))

    assert bench.ask(second, first).base is None
    bench.work()
    assert bench.ask(second, first).base == lost.base


@contextlib.contextmanager
def capped(data: Path, cap_bytes: int) -> Iterator[Services]:
    """Open a registry whose encodings may take so much."""
    opened = registries.services(data, clock=SetClock(), encodings_cache_bytes=cap_bytes)
    try:
        yield opened
    finally:
        opened.engine.dispose()


def stored_bytes(services: Services) -> int:
    return sum(one.size_bytes for one in services.encodings.stored())


def test_the_cache_keeps_below_its_cap_and_whole_what_is_deployed(tmp_path: Path) -> None:
    with capped(tmp_path / "data", 1 << 30) as services:
        registry_rows.add_device(services, "dev-a")
        bench = Bench(services, tmp_path)
        first, second = bench.push(), bench.push()
        deltas.report(services, "dev-a", first)
        registry_rows.deploy(services, "scale")
        bench.work()
        assert bench.ready(second, first)
        cap_bytes = stored_bytes(services) - 1
    with capped(tmp_path / "data", cap_bytes) as services:
        bench = Bench(services, tmp_path)
        bench.work()

        assert bench.ready(second, first) == set()
        assert "evicted" in bench.states().values()
        assert services.encodings.ready(Recipe(deltas.blob(services, second), encodings.ZSTD))
        assert stored_bytes(services) <= cap_bytes
        assert bench.encoded == [], "what was evicted is not made again unasked"


def test_a_delta_that_a_device_may_be_fetching_is_not_evicted(tmp_path: Path) -> None:
    with capped(tmp_path / "data", 1 << 30) as services:
        registry_rows.add_device(services, "dev-a")
        bench = Bench(services, tmp_path)
        first, second = bench.push(), bench.push()
        deltas.report(services, "dev-a", first)
        registry_rows.deploy(services, "scale")
        bench.work()
        assert isinstance(services.clock, SetClock)
        services.clock.at += 1
        assert bench.ask(second, first).base is not None
        bench.work()
    with capped(tmp_path / "data", 1) as services:
        bench = Bench(services, tmp_path)
        bench.work()
        assert bench.ready(second, first)

        assert isinstance(services.clock, SetClock)
        services.clock.at += 2 + services.settings.presign_ttl_s
        bench.work()
        assert bench.ready(second, first) == set()


def test_a_cache_of_nothing_means_no_deltas(tmp_path: Path) -> None:
    with capped(tmp_path / "data", 0) as services:
        registry_rows.add_device(services, "dev-a")
        bench = Bench(services, tmp_path)
        first, second = bench.push(), bench.push()
        deltas.report(services, "dev-a", first)
        registry_rows.deploy(services, "scale")

        bench.work()

        assert bench.ready(second, first) == set()
        assert bench.ask(second, first).encoding == "zstd"


def test_the_duty_makes_deltas_in_a_child_as_soon_as_a_version_is_registered(
    tmp_path: Path, stores: Stores
) -> None:
    with registry_rows.services(tmp_path / "data", stores=stores) as services:
        registry_rows.add_device(services, "dev-a")
        bench = Bench(services, tmp_path)
        first = bench.push()
        deltas.report(services, "dev-a", first)
        stopping, tick = threading.Event(), threading.Event()
        duty = threading.Thread(target=Maker(services).run, args=(stopping,))
        duty.start()
        try:
            second = bench.push()
            made = (tick.wait(0.05) or bench.ready(second, first) for _ in range(1000))
            assert any(made)
        finally:
            stopping.set()
            duty.join()
        registry_rows.deploy(services, "scale")
        assert bench.ask(second, first).base == deltas.blob(services, first)
