"""`packhorse deploy -f`, `plan`, `rollouts` and `explain`, as an operator types them."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud import shapes
from cloud.cli import documents, rolling
from cloud.rollouts.engine import Engine
from runtime.errors import InvalidError
from tests.support import documents as pages
from tests.support import fleet, registries
from tests.support.command_line import Run
from tests.support.registries import Registry

DOCUMENT = """\
name: vision
target: site=lab
modules:
  m: {model: "m:1", soak_s: 1}
strategy:
  waves:
    - {count: 1, soak: 10min, approve: true}
    - percent: 50
      timeout: 2h
  windows:
    update:
      - {cron: "* * * * *", zone: Europe/Vienna, for: 1h}
  abort: {failures: 2, silence: 5min}
  budget: {max_unavailable: "20%", by: site}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registries.running(tmp_path_factory.mktemp("registry")) as running:
        running.register("m", b"1")
        running.register("m", b"2")
        for name in ("dev-a", "dev-b"):
            running.enrol(name, labels={"site": "lab"}, facts={"memory_mb": "512"})
        yield running


def read(text: str) -> shapes.DeploymentDocument:
    return documents.document(text.encode())


def refused(text: str) -> str:
    with pytest.raises(InvalidError) as raised:
        read(text)
    return str(raised.value)


@pytest.mark.parametrize("page", ["README.md", "docs/specs/rollouts.md"])
def test_the_documents_of_the_documentation_are_documents(page: str) -> None:
    found = [each for each in pages.blocks(pages.ROOT / page, "yaml") if "strategy:" in each]

    assert found
    for text in found:
        read(text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"nowhere\.yaml.*name a file that is there"):
        rolling.read(str(tmp_path / "nowhere.yaml"))


def test_a_document_says_its_times_with_units_or_in_seconds() -> None:
    made = read(DOCUMENT).strategy

    assert [(wave.soak_s, wave.timeout_s) for wave in made.waves] == [(600, None), (None, 7200)]
    assert made.abort.silence_s == 300
    assert made.windows.update[0].for_s == 3600
    as_json = json.dumps(read(DOCUMENT).model_dump(mode="json"))
    assert read(as_json) == read(DOCUMENT)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("target:", "traget:", "traget (line 2)"),
        ("target:", "traget:", "target"),
        ("percent: 50", "precent: 50", "strategy.waves.1.precent (line 8)"),
        ("percent: 50", "precent: 50", "did you mean 'percent'?"),
        ("percent: 50", "percent: 500", "strategy.waves.1.percent (line 8)"),
        ("percent: 50", "count: 2\n      percent: 50", "give one of count, percent and selector"),
        ("silence: 5min", "silence: soon", "strategy.abort.silence (line 13)"),
        ("soak_s: 1}", "soaks: 1}", "modules.m.soaks (line 4)"),
        ("name: vision", "name: Vision!", "name (line 1)"),
        ("name: vision", "name: vision\nname: two", "'name' twice"),
        ('"20%"', "0", "strategy.budget.max_unavailable"),
    ],
)
def test_what_is_wrong_in_a_document_is_told_with_its_line(old: str, new: str, told: str) -> None:
    assert told in refused(DOCUMENT.replace(old, new))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"target": "site="}, "selector"),
        ({"modules": {"M": {"model": "m"}}}, "module"),
        ({"modules": {"m": {"model": "m:1", "follow": True}}}, "modules.m.follow"),
        ({"modules": {"m": {"model": "m", "sources": ["nothing"]}}}, "sources"),
        ({"strategy": {"waves": [{"selector": "="}]}}, "selector"),
        ({"strategy": {"windows": {"update": [{"cron": "x", "for_s": 1}]}}}, "update.0.cron"),
        (
            {"strategy": {"windows": {"update": [{"cron": "* * * * *", "zone": "X", "for_s": 1}]}}},
            "update.0.zone",
        ),
        ({"strategy": {"budget": {"by": "a b"}}}, "strategy.budget.by"),
    ],
)
def test_what_no_rollout_could_follow_is_refused(
    registry: Registry, change: dict[str, Any], told: str
) -> None:
    wish = {"name": "v", "target": "all", "modules": {"m": {"model": "m"}}} | change
    answer = registry.http.post("/api/v1/rollouts", json=wish)

    assert (answer.status_code, told in answer.text) == (422, True), answer.text
    assert registry.http.post("/api/v1/rollouts/plan", json=wish).status_code == 422


def test_waves_on_the_command_line_make_a_document() -> None:
    made = rolling.document(None, ["2", "20%", "site=lab"], rolling.Options("m:1", "all"))

    assert (made.name, made.target, made.modules["m"].model) == ("m", "all", "m:1")
    waves = [(wave.count, wave.percent, wave.selector) for wave in made.strategy.waves]
    assert waves == [(2, None, None), (None, 20.0, None), (None, None, "site=lab")]
    with pytest.raises(InvalidError, match="--to"):
        rolling.document(None, ["1"], rolling.Options("m:1"))
    with pytest.raises(InvalidError, match="leave out all other options"):
        rolling.document("x", [], rolling.Options("m:1"))


def test_a_rollout_from_its_plan_to_its_end(
    run: Run, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_text(DOCUMENT)
    engine = Engine(registry.services)
    planned = run("plan", "-f", file, "--json").json()
    assert (planned["devices"], planned["by_presence"]) == (2, {"unknown": 2})
    assert {each["kind"] for each in planned["obstacles"]} == {"offline"}
    assert planned["modules"][0]["bytes_by_encoding"] == {"not encoded yet": 2}
    assert run("explain", "dev-a").code == 1

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(DOCUMENT.encode())))
    rollout = run("deploy", "-f", "-").out.strip()
    assert "waits for approval" in run("rollouts", "show", rollout).out
    assert "wave 1: approved" in run("rollouts", "approve", rollout, "--note", "go").out
    name = run("rollouts", "show", rollout, "--json").json()["rollout"]["name"]
    assert run("rollouts", "pause", name).out == f"{rollout}: paused\n"
    assert run("rollouts", "resume", rollout).out == f"{rollout}: running\n"
    engine.look()
    assert "not heard of" in run("rollouts", "show", rollout).out
    assert run("rollouts", "show", rollout, "--watch", "--timeout", "0s").code == 4
    assert run("rollouts", "cancel", rollout).code == 0
    assert run("rollouts", "show", rollout, "-w").code == 1
    assert rollout in run("rollouts", "list").out
    assert run("rollouts", "revert", rollout, "--json").json()["state"] == "reverting"
    again = run("rollouts", "rollback", "--to", rollout, "--json").json()
    assert again["origin"] == rollout
    assert run("rollouts", "cancel", again["id"]).code == 0


def test_an_explanation_says_why_and_never_calls_the_unknown_healthy(
    run: Run, registry: Registry
) -> None:
    registry.enrol("dev-x", labels={"site": "x"})
    made = registry.post("/api/v1/deployments", {"model": "m", "selector": "site=x"}, 201)
    told = registry.get("/api/v1/devices/dev-x/explanation")
    assert (told["healthy"], told["modules"][0]["running"]) == (False, "unknown")
    fleet.converge(registry, "dev-x", made)

    told = run("explain", "dev-x", "--json").json()
    (module,) = told["modules"]
    assert (told["healthy"], module["verdict"]) == (True, "running")
    assert [(claim["deployment"], claim["standing"]) for claim in module["claims"]] == [
        (made["id"], "decides")
    ]
    registry.clock.at += 1000
    told = registry.get("/api/v1/devices/dev-x/explanation")
    assert (told["healthy"], told["presence"], told["modules"][0]["verdict"]) == (
        False,
        "unknown",
        "unknown",
    )
    registry.clock.at -= 1000


def test_a_plan_says_what_is_in_its_way(registry: Registry) -> None:
    """A conflict, a budget that is used up, and a device that cannot hold it."""
    registry.enrol("dev-y", labels={"site": "y"}, facts={"memory_mb": "64"})
    made = registry.post("/api/v1/deployments", {"model": "m", "selector": "site=y"}, 201)
    fleet.converge(registry, "dev-y", made)
    wish = {"name": "rival", "target": "site=y", "modules": {"m": {"model": "m:1"}}}

    planned = registry.post("/api/v1/rollouts/plan", wish)

    (obstacle,) = planned["obstacles"]
    assert (obstacle["kind"], obstacle["device"]) == ("conflict", "dev-y")
    assert planned["expected_s"] is None
    own = registry.post("/api/v1/rollouts/plan", wish | {"name": "m"})
    assert (own["obstacles"], own["waves"], own["expected_s"]) == ([], [1], 60.0)
    assert registry.get("/api/v1/rollouts")["items"][0]["name"] != "rival"
