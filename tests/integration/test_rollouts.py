"""Rollouts with real agents: a version that fails its check on 3 of 10 devices.

Once with a model in worker processes, once with a container on a Docker engine that all share.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud import shapes
from cloud.client import Client
from edge_agent import enrol
from edge_agent.containers import plan
from runtime.containers.engine import Engine
from runtime.containers.specs import ContainerSeen
from tests.support import containerboxes, engines, imageregistry, processes, scripts, smallimages
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


BOX = "box"
BOXES = {
    "name": BOX,
    "target": "site=lab",
    "modules": {BOX: {"model": BOX, "soak_s": 0.5}},
    "strategy": {"abort": {"failures": 3}},
}
"""All at once, so that others run the new version already when the third has failed."""
HEALTH = f"""health:
  command:
    - sh
    - -c
    - 'case $PACKHORSE_DEVICE in {"|".join(BAD)}) echo no light; exit 1;; esac'
  interval_s: 1
  timeout_s: 60
  retries: 1
  start_s: 0
"""


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with processes.scratch() as place, processes.registry(place) as running:
        yield running


@pytest.fixture(scope="module")
def fleet(registry: Registry) -> Iterator[list[Agent]]:
    """Ten devices that run."""
    settings = {"PACKHORSE_AGENT_ENGINE_URL": engines.place().url}
    with processes.scratch() as place:
        agents = [
            Agent(
                place / f"dev-{number}",
                registry,
                f"dev-{number}",
                labels={"site": "lab"},
                settings=settings,
            )
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
            containerboxes.clear_shared(BOX)


def ended(client: Client, rollout: str) -> shapes.RolloutDetail:
    """Wait until nothing more comes of a rollout."""

    def over() -> bool:
        return client.rollout(rollout).rollout.state not in {"running", "reverting"}

    eventually(over, f"{rollout} is over", 120)
    return client.rollout(rollout)


def why(found: shapes.RolloutDetail) -> str:
    """Return what is said of the devices that are not updated."""
    return "; ".join(f"{each.device}: {each.reason}" for each in found.devices if each.reason)


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

    assert (first.rollout.state, first.rollout.counts) == ("complete", {"updated": 10}), why(first)
    assert second.rollout.state == "reverted", second
    assert "devices failed" in second.rollout.reason or "the gate is" in second.rollout.reason
    assert set(second.rollout.counts) <= {"reverted", "not_reached"}
    assert sum(second.rollout.counts.values()) == 10
    refused = {each.device for each in second.devices if "check" in each.reason}
    assert refused
    assert refused <= set(BAD)
    for agent in fleet:
        agent.await_answer("total", 1)


@pytest.fixture
def boxes(engine: Engine, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A container's bundle, and the next version of it, which three devices cannot run."""
    with imageregistry.serving(tmp_path) as images:
        made = smallimages.make(engine, images, versions=("1", "2"))
        sleeps = smallimages.shell("exec sleep 600")
        yield (
            smallimages.write(tmp_path / "one", name=BOX, text=sleeps, image=made["1"]),
            smallimages.write(
                tmp_path / "two", name=BOX, text=f"{sleeps}\n{HEALTH}", image=made["2"]
            ),
        )


def by_device(engine: Engine) -> dict[str, list[ContainerSeen]]:
    """Return all containers of the module, of each device."""
    found: dict[str, list[ContainerSeen]] = {}
    for seen in engine.containers({plan.MODULE: BOX}):
        found.setdefault(seen.labels[plan.DEVICE], []).append(seen)
    return found


def test_a_container_that_is_unhealthy_on_3_of_10_devices_stops_and_all_end_on_the_old_one(
    registry: Registry, fleet: list[Agent], boxes: tuple[Path, Path], engine: Engine
) -> None:
    names = {agent.name for agent in fleet}
    document = shapes.DeploymentDocument.model_validate_json(json.dumps(BOXES))
    with registry.client() as client:
        processes.push(client, boxes[0])
        first = ended(client, client.roll_out(document).id)
        before = by_device(engine)
        processes.push(client, boxes[1])
        second = ended(client, client.roll_out(document).id)
        told = list(client.events(kind="rollout.device_ended", subject=second.rollout.id))
        refused = list(client.events(kind="device.failed"))

    def left() -> list[tuple[str, str, bool]]:
        return sorted(
            (device, each.labels[plan.VERSION], each.running)
            for device, seen in by_device(engine).items()
            for each in seen
        )

    assert (first.rollout.state, first.rollout.counts) == ("complete", {"updated": 10}), why(first)
    assert second.rollout.state == "reverted", second
    last = [each for each in told if each.data["outcome"] in {"reverted", "not_reached"}]
    assert Counter(each.data["device"] for each in last) == dict.fromkeys(names, 1)
    said = {each.subject: each.data["reason"] for each in refused if each.data["model"] == BOX}
    assert sorted(said) == sorted(BAD), said
    assert all("unhealthy: no light" in each for each in said.values()), said
    eventually(
        lambda: left() == sorted((name, f"{BOX}:1", True) for name in names),
        "each device runs one container of the old version, and nothing of the new one is left",
        60,
    )
    assert len(engine.networks({plan.MODULE: BOX})) == 10
    after = by_device(engine)
    assert all(after[name][0].id == before[name][0].id for name in BAD), "they were not touched"
