"""Bundles that are no good, with real processes: refused at the push, or by the device.

Each gets a clear message at the right place, the old version answers on, nothing is half written.
"""

import http.client
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud import shapes
from runtime import digests
from runtime.bundle import build, index
from tests.support import fleets
from tests.support.fleets import Fleet
from tests.support.processes import Agent, eventually

Change = Callable[[Path], None]


def unknown_key(directory: Path) -> None:
    with (directory / "bundle.yaml").open("a") as yaml:
        yaml.write("chekc: {inputs: inputs.npz}\n")


def missing_model(directory: Path) -> None:
    (directory / "model.onnx").unlink()


def corrupt_model(directory: Path) -> None:
    model = directory / "model.onnx"
    model.write_bytes(model.read_bytes()[:-20])


def check_of_another_width(directory: Path) -> None:
    np.savez(directory / "inputs.npz", x=np.zeros((2, 5), dtype=np.float32))


def check_of_another_input(directory: Path) -> None:
    np.savez(directory / "inputs.npz", pixels=np.zeros((2, 4), dtype=np.float32))


def check_of_another_output(directory: Path) -> None:
    np.savez(directory / "outputs.npz", y=np.zeros((2, 9), dtype=np.float32))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (unknown_key, ["chekc", "did you mean", "check"]),
        (missing_model, ["model", "model.onnx", "no such file"]),
        (corrupt_model, ["model", "model.onnx", "ONNX"]),
        (check_of_another_width, ["check.inputs", "x", "5"]),
        (check_of_another_input, ["check.inputs", "pixels", "x"]),
        (check_of_another_output, ["check.outputs", "y", "9"]),
    ],
)
def test_a_bundle_that_cannot_be_is_refused_before_anything_is_sent(
    fleet: Fleet, spoil: Change, words: list[str]
) -> None:
    name = f"push-{spoil.__name__.replace('_', '-')}"
    fleet.push(name)
    before = fleets.blobs(fleet.registry.data)
    directory = fleet.bundle(name, factor=2.0, change=spoil)

    said = fleet.packhorse("models", "push", str(directory))

    assert (said.code, said.out) == (2, "")
    assert all(word in said.complaint for word in words), said.complaint
    assert [each.version for each in fleet.client.versions(name)] == [1]
    assert fleets.blobs(fleet.registry.data) == before


def failing_check(fleet: Fleet, name: str) -> None:
    fleet.push(name, factor=2.0, passes=False)


def unloadable_model(fleet: Fleet, name: str) -> None:
    """Register, by the API alone, a bundle with an ONNX file that no builder would take."""
    built = build.build(fleet.bundle(name, factor=2.0))
    damaged = fleet.place / f"{name}.onnx"
    damaged.write_bytes(b"no model at all")
    digest = digests.of_file(damaged)
    entries = tuple(
        msgspec.structs.replace(entry, sha256=digest, size=damaged.stat().st_size)
        if entry.path == "model.onnx"
        else entry
        for entry in built.index.files
    )
    for blob, path in {**built.files, digest: damaged}.items():
        fleet.client.put_blob(blob, path)
    forged = index.encode(msgspec.structs.replace(built.index, files=entries))
    fleet.client.register(name, forged)


def greedy_check(fleet: Fleet, name: str) -> None:
    """Push what asks for far more memory than its limit as soon as it runs."""
    fleet.push(name, factor=2.0, memory_mb=200, change=with_entry(GREEDY))


def slow_check(fleet: Fleet, name: str) -> None:
    def demand(directory: Path) -> None:
        with (directory / "bundle.yaml").open("a") as yaml:
            yaml.write("  p95_ms: 0.0001\n")

    fleet.push(name, factor=2.0, change=demand)


GREEDY = """
import time
held = []
def run(inputs):
    held.append(bytearray(b"x") * (300 << 20))
    time.sleep(3)
    return CONTEXT.predict(inputs)
"""
GREEDY_WHEN_ASKED = """
import time
held = []
def run(inputs):
    if inputs["x"][0, 0] == 666:
        held.append(bytearray(b"x") * (300 << 20))
        time.sleep(3)
    return CONTEXT.predict(inputs)
"""
KEEP_CONTEXT = "def init(context):\n    global CONTEXT\n    CONTEXT = context\n"


def with_entry(code: str) -> Change:
    """Return what gives a bundle an entry script."""

    def give(directory: Path) -> None:
        (directory / "entry.py").write_text(KEEP_CONTEXT + code)
        with (directory / "bundle.yaml").open("a") as yaml:
            yaml.write("entry: entry.py\n")

    return give


def starts(agent: Agent) -> int:
    return agent.log.read_text().count("worker started")


def require_version_1(fleet: Fleet, agent: Agent, deployment: str) -> None:
    """Fail unless the old version answers, and the registry knows that."""
    assert agent.infer(agent.name, fleets.ROW).version == "1"
    running = fleet.progress(deployment).running
    assert running is not None
    assert running.version == 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (failing_check, "output y differs in 6 of 6 values"),
        (unloadable_model, "model.onnx does not load in onnxruntime"),
        (greedy_check, "limit 200 MiB (resources.memory_mb)"),
        (slow_check, "above check.p95_ms of 0.0001 ms"),
    ],
)
def test_a_version_that_is_no_good_on_the_device_is_refused_and_the_old_one_answers(
    fleet: Fleet, spoil: Callable[[Fleet, str], None], words: str
) -> None:
    name = spoil.__name__.replace("_", "-")
    agent = fleet.running(name)
    spoil(fleet, name)
    deployment = fleet.deploy(name)

    failed = fleet.until_stage(deployment, "failed")

    assert words in failed.reason
    assert not failed.retrying
    require_version_1(fleet, agent, deployment)
    shown = fleet.packhorse("deployments", "show", deployment)
    assert shown.code == 0
    assert words in shown.out
    told = fleet.packhorse("deployments", "show", deployment, "--json")
    detail = shapes.DeploymentDetail.model_validate_json(told.out)
    assert [(each.stage, each.reason) for each in detail.devices] == [("failed", failed.reason)]

    started = starts(agent)
    under_another = fleet.deploy(name)
    assert words in fleet.until_stage(under_another, "failed").reason
    agent.kill()
    agent.start()
    agent.await_answer(name, 1)
    eventually(lambda: fleets.says(agent).connected, "it is connected again")
    assert words in fleet.until_stage(under_another, "failed").reason
    assert starts(agent) == started + 1, "only the old version was started"

    assert fleet.packhorse("deployments", "retry", under_another).code == 0
    eventually(lambda: starts(agent) == started + 2, "it is tried again")
    assert words in fleet.until_reason(under_another, words).reason
    require_version_1(fleet, agent, under_another)


def test_a_version_that_outgrows_its_memory_while_it_serves_gives_way_to_the_old_one(
    fleet: Fleet,
) -> None:
    name = "greedy-later"
    agent = fleet.running(name, settings={"PACKHORSE_AGENT_CRASH_LIMIT": "2"})
    fleet.push(name, factor=2.0, memory_mb=200, change=with_entry(GREEDY_WHEN_ASKED))
    deployment = fleet.deploy(name)
    agent.await_answer(name, 2)

    for _ in range(2):
        agent.await_answer(name, 2)
        with pytest.raises((OSError, http.client.HTTPException)):
            agent.infer(name, [666.0, 0.0, 0.0, 0.0])

    failed = fleet.until_stage(deployment, "failed")
    assert "crash loop: 2 crashes" in failed.reason
    assert "limit 200 MiB (resources.memory_mb)" in failed.reason
    agent.await_answer(name, 1)
    eventually(lambda: running_version(fleet, deployment) == 1, "the registry knows that")


def running_version(fleet: Fleet, deployment: str) -> int | None:
    running = fleet.progress(deployment).running
    return None if running is None else running.version
