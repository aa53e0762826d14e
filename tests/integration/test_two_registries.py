"""Two registries on one PostgreSQL and one broker: one works, the other is there when it dies."""

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import Connection

from cloud import shapes
from cloud.client import Client
from tests.support import bundles, obedient, processes
from tests.support.obedient import Device
from tests.support.postgres import Server
from tests.support.processes import Registry, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FLEET = [f"dev-{number}" for number in range(4)]


class Pair:
    """Both registries, and what their database says."""

    def __init__(self, one: Registry, other: Registry, database: Connection) -> None:
        self.registries, self._database = (one, other), database

    def holder(self) -> Registry:
        """Return the one that looks after rollouts."""

        def held() -> list[Registry]:
            row = self._database.execute("SELECT owner FROM lease").fetchone()
            owner = "" if row is None else row[0]
            return [each for each in self.registries if f"-{each.pid}-" in owner and each.runs]

        eventually(lambda: bool(held()), "a registry that runs holds the lease")
        return held()[0]

    def beside(self, registry: Registry) -> Registry:
        """Return the other one."""
        (found,) = (each for each in self.registries if each is not registry)
        return found


@pytest.fixture
def pair(postgres_server: Server) -> Iterator[Pair]:
    with contextlib.ExitStack() as ending, processes.scratch() as place:
        name = postgres_server.make()
        ending.callback(postgres_server.drop, name)
        one = Registry(place / "one" / "registry", "mosquitto")
        other = Registry(place / "other" / "registry", beside=one)
        for each in (one, other):
            each.environment["PACKHORSE_DATABASE_URL"] = postgres_server.url(name)
        ending.callback(one.stop_all)
        one.start()
        # What several registries of one fleet share, as docs/operations.md says.
        for shared in ("authority", "secrets", "blobs"):
            shutil.copytree(one.data / shared, other.data / shared)
        ending.callback(other.stop)
        other.start()
        with postgres_server.connect(name) as database:
            yield Pair(one, other, database)


def begin(client: Client, directory: Path, factor: float) -> str:
    """Push one more version, and roll it out device by device."""
    directory.mkdir()
    bundles.write(directory, name="m", factor=factor)
    processes.push(client, directory)
    document = {
        "name": "m",
        "target": "site=lab",
        "modules": {"m": {"model": "m"}},
        "strategy": {"waves": [{"count": 1, "soak_s": 0.5} for _ in FLEET]},
    }
    return client.roll_out(shapes.DeploymentDocument.model_validate(document)).id


def killed_midway(pair: Pair, rollout: str) -> Registry:
    """Kill -9 whoever looks after a rollout that has begun; return the other registry."""
    holder = pair.holder()
    with holder.client() as client:
        eventually(lambda: client.rollout(rollout).rollout.wave >= 1, "the second wave has begun")
    assert pair.holder() is holder
    holder.kill()
    return pair.beside(holder)


def require_done_once(client: Client, rollout: str) -> None:
    """Wait until a rollout is complete; fail if anything happened twice."""
    eventually(
        lambda: client.rollout(rollout).rollout.state == "complete", f"{rollout} is complete"
    )
    told = Counter(
        (each.kind, str(each.data.get("wave", each.data.get("device", ""))))
        for each in client.events(subject=rollout)
    )
    assert set(told.values()) == {1}, told
    ended = {device for kind, device in told if kind == "rollout.device_ended"}
    assert ended == set(FLEET)


def test_when_the_registry_that_works_is_killed_the_other_finishes_and_nothing_is_done_twice(
    pair: Pair, tmp_path: Path
) -> None:
    one = pair.registries[0]
    with obedient.fleet(tmp_path / "devices", one, FLEET) as devices:
        for number, factor in enumerate((1.0, 2.0), start=1):
            with one.client() as client:
                rollout = begin(client, tmp_path / f"bundle-{number}", factor)
            survivor = killed_midway(pair, rollout)
            with survivor.client() as client:
                require_done_once(client, rollout)
            pair.beside(survivor).start()
            assert [changes(device) for device in devices] == [number] * len(FLEET)


def test_two_registries_do_not_take_the_broker_from_one_another(pair: Pair) -> None:
    """A broker gives a session to one connection: only one of them keeps those of devices."""
    logs = [each.log.read_text() for each in pair.registries]

    assert [log.count("mqtt disconnected") for log in logs] == [0, 0]
    assert ["packhorse-ingest-reported" in log for log in logs] == [True, False]


def changes(device: Device) -> int:
    """Return how often a device was told to run something else."""
    return sum(bool(modules) for modules in device.told.values())
