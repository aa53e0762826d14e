"""A rollout with real agents: a canary that fails its check on 3 of 10 devices. Real processes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud import shapes
from cloud.client import Client
from edge_agent import enrol
from tests.support import processes, scripts
from tests.support.processes import Agent, Registry, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

BAD = ("dev-2", "dev-5", "dev-7")
SCRIPT = f"""
import json
import numpy as np

def init(context):
    global factor
    factor = json.loads(context.model.read_text())["factor"]
    if factor > 1 and any(f"/{{name}}/" in f"{{context.directory}}/" for name in {BAD!r}):
        factor = 1000.0

def run(inputs):
    return {{"y": inputs["x"].sum(axis=1) * np.float32(factor)}}
"""
DOCUMENT = {
    "name": "total",
    "target": "site=lab",
    "modules": {"total": {"model": "total", "soak_s": 0.5}},
    "strategy": {"budget": {"max_unavailable": 5}},
}


@pytest.fixture
def registry() -> Iterator[Registry]:
    with processes.scratch() as place, processes.registry(place) as running:
        yield running


@pytest.fixture
def fleet(registry: Registry) -> Iterator[list[Agent]]:
    """Ten devices that run."""
    with processes.scratch() as place:
        agents = [
            Agent(place / f"dev-{number}", registry, f"dev-{number}", labels={"site": "lab"})
            for number in range(10)
        ]
        try:
            with registry.client() as client:
                for agent in agents:
                    token = client.make_token(shapes.NewToken(labels=agent.labels)).token
                    enrol.enrol(
                        agent.data,
                        url=registry.url,
                        token=token,
                        device_id=agent.name,
                        facts={},
                    )
                    agent.start()
            yield agents
        finally:
            for agent in agents:
                agent.stop()


def ended(client: Client, rollout: str) -> shapes.RolloutDetail:
    """Wait until nothing more comes of a rollout."""

    def over() -> bool:
        return client.rollout(rollout).rollout.state not in {"running", "reverting"}

    eventually(over, f"{rollout} is over", 120)
    return client.rollout(rollout)


def push(client: Client, directory: Path, factor: float) -> None:
    scripts.write(directory, script=SCRIPT, factor=factor)
    processes.push(client, directory)


def test_a_canary_that_fails_on_3_of_10_devices_stops_and_all_end_on_the_old_version(
    registry: Registry, fleet: list[Agent], tmp_path: Path
) -> None:
    document = shapes.DeploymentDocument.model_validate_json(json.dumps(DOCUMENT))
    with registry.client() as client:
        push(client, tmp_path / "one", 1.0)
        first = ended(client, client.roll_out(document).id)
        push(client, tmp_path / "two", 2.0)
        second = ended(client, client.roll_out(document).id)

    assert (first.rollout.state, first.rollout.counts) == ("complete", {"updated": 10})
    assert second.rollout.state == "reverted", second
    assert "devices failed" in second.rollout.reason or "the gate is" in second.rollout.reason
    assert set(second.rollout.counts) <= {"reverted", "not_reached"}
    assert sum(second.rollout.counts.values()) == 10
    refused = {each.device for each in second.devices if "check" in each.reason}
    assert refused
    assert refused <= set(BAD)
    for agent in fleet:
        agent.await_answer("total", 1)
