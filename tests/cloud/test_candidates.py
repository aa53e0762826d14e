"""Deployments with a candidate: made, shown, downloaded, promoted, kept from deletion."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud import shapes, tables
from cloud.cli import candidates as shown
from cloud.cli import main
from cloud.messaging.rights import Rights
from cloud.registry import deletion, desired, explain, hearing
from cloud.registry.hearing import Word
from runtime.candidates import CandidateReport, Mode
from runtime.digests import Digest
from runtime.messages import FetchRequest, ModuleReport, Phase, Reported, RunningVersion
from runtime.topics import DeviceId
from tests.support import registries
from tests.support.command_line import Run
from tests.support.registries import Registry

PATH = "/api/v1/deployments"
DEVICE = DeviceId("one")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path / "data") as running:
        running.register("m", b"1")
        running.register("m", b"2")
        running.enrol("one")
        yield running


def deploy(registry: Registry, status: int = 201, **rules: Any) -> Any:
    """Deploy version 1 with version 2 as its candidate."""
    candidate = {"model": "m", "version": 2} | rules
    wish = {"model": "m", "version": 1, "selector": "all", "candidate": candidate}
    return registry.post(PATH, wish, status)


def test_a_device_is_told_of_the_candidate_and_may_download_it(registry: Registry) -> None:
    made = deploy(registry, mode="canary", fraction=0.25, gate={"requests": 7}, promote="by-gate")
    with registry.services.transaction() as session:
        wanted = desired.read(session, DEVICE)
        assert wanted is not None
        (module,) = wanted.modules
        assert module.candidate is not None
        ask = FetchRequest("f", (module.candidate.bundle,), ("zstd",))
        refusal = Rights(session, [DEVICE]).refusal(DEVICE, ask)

    assert (module.version, module.candidate.version, module.candidate.mode) == (1, 2, Mode.CANARY)
    assert (module.candidate.fraction, module.candidate.gate.requests) == (0.25, 7)
    assert made["candidate"]["promote"] == "by-gate"
    assert refusal is None


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        ({"version": 1}, 422),
        ({"version": 9}, 404),
        ({"fraction": 0}, 422),
        ({"mode": "loud"}, 422),
        ({"gate": {"agreement": 1.5}}, 422),
        ({"frction": 0.5}, 422),
    ],
)
def test_a_candidate_that_makes_no_sense_is_refused(
    registry: Registry, rules: dict[str, Any], status: int
) -> None:
    deploy(registry, status, **rules)


def test_a_promoted_candidate_is_the_version_and_nothing_is_promoted_twice(
    registry: Registry,
) -> None:
    made = deploy(registry)
    promoted = registry.post(f"{PATH}/{made['id']}/promote", {})
    with registry.services.transaction() as session:
        wanted = desired.read(session, DEVICE)

    assert (promoted["version"], promoted["candidate"]) == (2, None)
    assert wanted is not None
    assert [(each.version, each.candidate) for each in wanted.modules] == [(2, None)]
    assert registry.post(f"{PATH}/{made['id']}/promote", {}, 409)["detail"].endswith(
        "has no candidate"
    )


def test_a_version_that_is_a_candidate_is_not_deleted(registry: Registry) -> None:
    made = deploy(registry)
    with registry.services.transaction() as session:
        row = session.get(tables.Version, ("m", 2))
        assert row is not None
        users = deletion.usage(session, row).users

    assert [(user.kind, user.id) for user in users] == [("deployment", made["id"])]


def report(registry: Registry, deployment: Any, state: str, *, version: int) -> None:
    """Have the device say how far the candidate is, and that it runs a version."""
    beside = deployment["candidate"]
    bundle = Digest(beside["bundle"] if version == 2 else deployment["bundle"])
    candidate = CandidateReport(
        bundle=Digest(beside["bundle"]),
        model="m",
        version=2,
        mode=Mode.SHADOW,
        state=state,
        reason="2 of 9 answers differ" if state == "failed" else "",
        requests=9,
        agreed=7,
        differed=2,
        p95_ms=4.0,
        own_p95_ms=5.0,
    )
    module = ModuleReport(
        name="m",
        phase=Phase.RUNNING,
        bundle=bundle,
        model="m",
        version=version,
        deployment=deployment["id"],
        since=1.0,
        running=RunningVersion(bundle, "m", version),
        candidate=candidate,
    )
    with registry.services.transaction() as session:
        told = Reported("one", 2, 1.0, (module,))
        hearing.take_over(session, [Word(DEVICE, told, registry.clock.at)])


def test_what_a_device_reports_of_a_candidate_is_shown(registry: Registry, run: Run) -> None:
    made = deploy(registry)
    report(registry, made, "failed", version=1)

    line = "m:2 shadow: failed; 7 of 9 alike; p95 4.0 ms, own 5.0 ms; 2 of 9 answers differ"
    told = registry.get(f"{PATH}/{made['id']}")["devices"][0]

    assert told["candidate"]["state"] == "failed"
    assert shown.state(shapes.CandidateState.model_validate(told["candidate"])) == line
    assert "candidate m:2: shadow of 100%, gate 500 answers, 99% alike, promoted by-hand" in (
        run("deployments", "show", made["id"]).out
    )
    assert run("devices", "show", "one", "--json").json()["modules"][0]["candidate"]["agreed"] == 7


def test_a_device_that_promoted_the_candidate_by_itself_is_complete(registry: Registry) -> None:
    made = deploy(registry, promote="by-gate")
    report(registry, made, "promoted", version=2)

    told = registry.get(f"{PATH}/{made['id']}")["devices"][0]

    assert (told["stage"], told["running"]["version"]) == (explain.Stage.RUNNING.value, 2)


def test_the_command_line_deploys_and_promotes_a_candidate(run: Run) -> None:
    options = ["--candidate", "m:2", "--mode", "shadow", "--fraction", "0.5"]
    options += ["--gate-requests", "500", "--gate-p95-ratio", "1.2", "--promote", "by-hand"]
    made = run("deploy", "m:1", "--to", "all", *options, "--json").json()

    assert made["candidate"]["gate"]["p95_ratio"] == 1.2
    assert run("deployments", "promote", made["id"]).out == f"{made['id']}: m:2\n"
    assert run("deploy", "m:1", "--to", "all", "--fraction", "0.5").code == main.BAD_INPUT
    assert run("deploy", "m:1", "--to", "all", "--candidate", "m", "--mode", "x").code != 0
