"""kill -9 of the whole `packhorse serve`, with its broker, again and again during a rollout."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cloud import shapes
from cloud.client import Client
from tests.support import bundles, obedient, parts, processes
from tests.support.obedient import Device
from tests.support.processes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FLEET = [f"dev-{number}" for number in range(6)]
WAVES = (1, 2)
"""And then the rest."""
BUDGET = 2
TAKES_S = 1.0
KILLED_AT = (0, 1, 2, 4, 6)
"""How many devices have been told to change when the registry is killed."""


def begin(client: Client, directory: Path) -> str:
    """Push a version, and roll it out in waves; return the rollout."""
    directory.mkdir()
    bundles.write(directory, name="m")
    processes.push(client, directory)
    document = {
        "name": "m",
        "target": "site=lab",
        "modules": {"m": {"model": "m"}},
        "strategy": {
            "waves": [{"count": count, "gate": 1, "soak_s": 0.5} for count in WAVES],
            "budget": {"max_unavailable": BUDGET},
        },
    }
    return client.roll_out(shapes.DeploymentDocument.model_validate(document)).id


def await_told(devices: Sequence[Device], count: int) -> None:
    """Wait until so many devices have been told to change."""
    eventually(lambda: sum(bool(each.changes) for each in devices) >= count, f"{count} are told")


def test_a_registry_that_is_killed_again_and_again_finishes_a_rollout_and_does_nothing_twice(
    tmp_path: Path,
) -> None:
    parts.require("nats-server")
    with (
        processes.scratch() as place,
        processes.registry(place) as registry,
        obedient.fleet(tmp_path / "devices", registry, FLEET, takes_s=TAKES_S) as devices,
    ):
        with registry.client() as client:
            rollout = begin(client, tmp_path / "bundle")
        for count in KILLED_AT:
            await_told(devices, count)
            registry.kill()
            registry.start()
        with registry.client() as client:
            obedient.require_done_once(client, rollout, devices, waves=len(WAVES) + 1)

    assert obedient.most_at_once(devices) <= BUDGET
