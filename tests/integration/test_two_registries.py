"""Two registries on one PostgreSQL and one broker: one works, the other is there when it dies."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import Connection

from cloud import shapes
from cloud.client import Client
from cloud.rollouts import lease
from tests.support import bundles, obedient, processes
from tests.support.postgres import Server
from tests.support.processes import Registry, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

LATE_S = 30.0
"""What a machine with other work to do may add to the lease's five seconds."""
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
        for shared in ("authority", "secrets"):
            shutil.copytree(one.data / shared, other.data / shared)
        (one.data / "blobs").mkdir(exist_ok=True)
        (other.data / "blobs").symlink_to(one.data / "blobs")
        ending.callback(other.stop)
        other.start()
        with postgres_server.connect(name) as database:
            yield Pair(one, other, database)


def begin(client: Client, directory: Path) -> str:
    """Push a version, and roll it out device by device."""
    directory.mkdir()
    bundles.write(directory, name="m", factor=1.0)
    processes.push(client, directory)
    document = {
        "name": "m",
        "target": "site=lab",
        "modules": {"m": {"model": "m"}},
        "strategy": {"waves": [{"count": 1, "soak_s": 0.5} for _ in FLEET]},
    }
    return client.roll_out(shapes.DeploymentDocument.model_validate(document)).id


def kill_holder(pair: Pair, rollout: str) -> tuple[Registry, float]:
    """Kill -9 whoever looks after a rollout that has begun; return the other registry, and when."""
    holder = pair.holder()
    with holder.client() as client:
        eventually(lambda: client.rollout(rollout).rollout.wave >= 1, "the second wave has begun")
    assert pair.holder() is holder
    holder.kill()
    return pair.beside(holder), time.time()


def test_when_the_registry_that_works_is_killed_the_other_finishes_and_nothing_is_done_twice(
    pair: Pair, tmp_path: Path
) -> None:
    """Nor does one take the broker from the other: only one keeps the sessions of devices."""
    one = pair.registries[0]
    logs = [each.log.read_text() for each in pair.registries]
    with obedient.fleet(tmp_path / "devices", one, FLEET) as devices:
        with one.client() as client:
            rollout = begin(client, tmp_path / "bundle")
        survivor, killed_at = kill_holder(pair, rollout)
        with survivor.client() as client:
            obedient.require_done_once(client, rollout, devices, waves=len(FLEET))
            later = [each.at for each in client.events(subject=rollout) if each.at > killed_at]

    assert [log.count("mqtt disconnected") for log in logs] == [0, 0]
    assert ["packhorse-ingest-reported" in log for log in logs] == [True, False]
    assert min(later) - killed_at < lease.LEASE_S + LATE_S
