"""`packhorse release` on real parts: a registry, an engine, a device; good versions and bad ones.

The tests are the life of one model, in this order: each release finds what the one before left.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import engines, servicefleets
from tests.support.fleets import Fleet, Said
from tests.support.processes import Agent, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("release")]

MODEL = "press"
SERVICE = f"press-{os.getpid()}"
"""The engine may have services of other test processes."""
STEPS = [
    "check", "register", "service", "verify service", "devices", "verify devices", "alias",
]  # fmt: skip
DONE = dict.fromkeys(STEPS[:2], "done")
SKIPPED = dict.fromkeys(STEPS[4:], "skipped")
CRASHES = """
import pathlib

def init(context):
    global predict
    predict = context.predict
    if pathlib.Path("/models/press").is_dir():
        raise RuntimeError("the lookup table lies on the trainer's disk")

def run(inputs):
    return predict(inputs)
"""
DRIFTS = """
def init(context):
    global predict, calls
    predict, calls = context.predict, 0

def run(inputs):
    global calls
    calls += 1
    return {"y": predict(inputs)["y"] + (calls > 1)}
"""
"""Right the first time, when it is checked before it is served, and wrong ever after."""


@pytest.fixture(scope="module")
def fleet(engine_rig: engines.Rig, gateway_image: str) -> Iterator[Fleet]:
    assert gateway_image, "what all images have in common is made before any time is measured"
    with servicefleets.fleet(engine_rig) as made:
        yield made


def release(fleet: Fleet, directory: Path, accuracy: float, *more: str) -> Said:
    return fleet.packhorse(
        *("release", str(directory), "--service", SERVICE, "--to", "site=plant", "--soak", "1s"),
        *("--meta", f"accuracy={accuracy}", "--gate", "metadata.accuracy>=@champion"),
        *("--gate", "check", "--alias", "champion", *more),
    )


def outcomes(said: Said) -> dict[str, str]:
    """Return how each step ended, of what was said as JSON."""
    return {each["name"]: each["outcome"] for each in report(said)["steps"]}


def report(said: Said) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said.out)
    return found


def scripted(fleet: Fleet, script: str) -> Path:
    """Return a bundle with a script."""

    def add(directory: Path) -> None:
        (directory / "score.py").write_text(script)
        with (directory / "bundle.yaml").open("a") as file:
            file.write("entry: score.py\n")

    return fleet.bundle(MODEL, factor=9.0, change=add)


def versions(fleet: Fleet) -> int:
    """Return how many versions are registered."""
    return len(list(fleet.client.versions(MODEL)))


def changes(fleet: Fleet) -> list[str]:
    """Return what was done so far, but for keys and commands by which a version is verified."""
    kinds = [each.kind for each in fleet.client.events()]
    return [kind for kind in kinds if not kind.startswith(("service.key_", "device.commanded"))]


@pytest.fixture(scope="module")
def first(fleet: Fleet) -> Said:
    """The first release of the model: what it said."""
    fleet.agent("arm", site="plant")
    said = release(
        fleet, fleet.bundle(MODEL, factor=2.0), 0.9,
        "--target", "docker", "--summary", str(fleet.place / "summary.md"), "--json",
    )  # fmt: skip
    assert said.code == 0, said.err + said.out
    return said


@pytest.fixture
def agent(fleet: Fleet, first: Said) -> Agent:
    assert first.code == 0
    return fleet.agents[0]


@pytest.fixture
def champion(fleet: Fleet, first: Said) -> int:
    """The version that the service and the device have before the test."""
    assert first.code == 0
    return fleet.client.version(MODEL, "champion").version


def test_the_first_release_registers_serves_deploys_and_names_a_version(
    fleet: Fleet, first: Said
) -> None:
    assert report(first)["model"] == f"{MODEL}:1"
    assert report(first)["ok"] is True
    assert set(outcomes(first).values()) == {"done"}
    assert list(outcomes(first)) == STEPS
    (facts,) = [each["facts"] for each in report(first)["steps"] if each["name"] == "service"]
    assert [each.partition("://")[0] for each in facts["endpoints"]] == ["http", "grpc"]
    summary = (fleet.place / "summary.md").read_text()
    assert summary.startswith(f"## {MODEL}:1: released\n")
    assert summary.count("✅ done") == len(STEPS)


@pytest.mark.usefixtures("first")
def test_a_released_version_gives_the_golden_answers_wherever_it_runs(fleet: Fleet) -> None:
    for kind, where in (("docker", f"service {SERVICE} r"), ("device", "device arm")):
        said = fleet.packhorse("models", "verify", f"{MODEL}@champion", "--on", kind, "--json")
        assert said.code == 0, said.err
        (finding,) = json.loads(said.out)
        assert finding["where"].startswith(where)
        assert finding["ok"]


@pytest.mark.usefixtures("first")
def test_the_same_release_again_changes_nothing(fleet: Fleet) -> None:
    directory = fleet.bundle(MODEL, factor=3.0)
    waiting = ("--strategy", "blue-green")
    once = release(fleet, directory, 0.9, *waiting)
    assert once.code == 0, once.err + once.out
    assert "| promote | ✅ done |" in once.out
    before = changes(fleet)

    again = release(fleet, directory, 0.9, *waiting, "--json")

    assert again.code == 0, again.err + again.out
    found = outcomes(again)
    same = ("register", "service", "promote", "devices", "alias")
    assert {found[name] for name in same} == {"unchanged"}
    assert {found[name] for name in ("check", "verify service", "verify devices")} == {"done"}
    assert changes(fleet) == before


def test_a_better_version_takes_over_step_by_step_without_a_failed_request(
    fleet: Fleet, agent: Agent, champion: int
) -> None:
    key = servicefleets.key(fleet, SERVICE, "watcher")
    with servicefleets.asking(fleet, SERVICE, MODEL, key) as load:
        said = release(
            fleet, fleet.bundle(MODEL, factor=5.0), 0.95, "--strategy", "canary",
            "--steps", "50,100", "--step-time", "1s", "--min-requests", "20",
            "--max-p95-ratio", "1000",
        )  # fmt: skip
        eventually(lambda: servicefleets.factor(load) == 5.0, "the new version answers")

    assert said.code == 0, said.err + said.out
    assert load.failures == []
    now = fleet.client.version(MODEL, "champion").version
    assert now == champion + 1
    assert said.out.startswith(f"## {MODEL}:{now}: released\n")
    assert agent.answers(MODEL, now)
    latest = [each.weight for each in fleet.client.service_runs(service=SERVICE)][:3]
    assert sorted(latest) == [50, 50, 100]


@pytest.mark.usefixtures("first")
def test_a_version_that_misses_a_gate_is_not_even_registered(fleet: Fleet) -> None:
    before = changes(fleet)

    said = release(fleet, fleet.bundle(MODEL, factor=7.0), 0.1)

    assert said.code == 1
    assert "gates missed: metadata.accuracy>=@champion: it is 0.1, not >= 0.9" in said.err
    assert changes(fleet) == before
    assert said.out.startswith(f"## {MODEL}: **not released**\n")
    assert said.out.count("⏭️ skipped") == len(STEPS) - 1


def test_a_version_that_does_not_start_is_rolled_back_and_devices_never_hear_of_it(
    fleet: Fleet, agent: Agent, champion: int
) -> None:
    deployments = len(list(fleet.client.deployments()))

    said = release(fleet, scripted(fleet, CRASHES), 0.99, "--progress-time", "8s", "--json")

    assert said.code == 1
    assert outcomes(said) == {**DONE, "service": "failed", **SKIPPED, "verify service": "skipped"}
    failed = next(each for each in report(said)["steps"] if each["outcome"] == "failed")
    assert ": not ready within 8 s: " in failed["text"]
    require_as_before(fleet, agent, champion)
    assert len(list(fleet.client.deployments())) == deployments


def test_a_version_that_answers_wrongly_once_it_is_served_is_rolled_back(
    fleet: Fleet, agent: Agent, champion: int
) -> None:
    said = release(fleet, scripted(fleet, DRIFTS), 0.99)

    assert said.code == 1
    assert said.out.startswith(f"## {MODEL}:{versions(fleet)}: **not released**\n")
    (line,) = [line for line in said.out.splitlines() if "❌" in line]
    assert line.startswith("| verify service |")
    assert "output y differs in 6 of 6 values" in line
    assert line.count("it was rolled back") == 1
    require_as_before(fleet, agent, champion)


def require_as_before(fleet: Fleet, agent: Agent, version: int) -> None:
    """Fail unless service, device and alias have this version."""
    detail = servicefleets.until(fleet, SERVICE, lambda seen: seen.settled, "it is settled")
    serving = next(each for each in detail.revisions if each.name == detail.current)
    assert (serving.version, detail.traffic) == (version, {detail.current: 100})
    assert agent.answers(MODEL, version)
    assert fleet.client.version(MODEL, "champion").version == version
