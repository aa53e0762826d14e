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
        ('"20%"', "0", "strategy.budget.max_unavailable (line 14): 0 is not accepted: give a"),
        ('"20%"', "120%", "at most 100%"),
        ('"20%"', "-3", "give a number of devices from 1 on"),
        ("count: 1", "count: -1", "strategy.waves.0.count (line 7)"),
        ("failures: 2", "failures: 1.5", "strategy.abort.failures (line 13): 1.5"),
        ("target: site=lab\n", "", "target: None is not accepted: it must be there"),
        ("    - percent", "\t- percent", "line 8, column 1"),
        ("name: vision", "name: vision\n---\nname: two", "write valid YAML"),
        ("soak_s: 1}", "download: {budget: lots}}", "modules.m.download.budget (line 4): 'lots'"),
        ("soak_s: 1}", "download: {metered: yes}}", "modules.m.download.metered (line 4): True"),
        ("soak_s: 1}", "candidate: {fraction: 2}}", "modules.m.candidate"),
    ],
)
def test_what_is_wrong_in_a_document_is_told_with_its_line(old: str, new: str, told: str) -> None:
    assert told in refused(DOCUMENT.replace(old, new))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"target": "site="}, "target: 'the end' is not accepted: at character 6"),
        ({"modules": {"M": {"model": "m"}}}, "modules: 'M'"),
        ({"modules": {"m": {"model": "m:1", "follow": True}}}, "modules.m.follow"),
        ({"modules": {"m": {"model": "m", "sources": ["nothing"]}}}, "modules.m.sources"),
        ({"modules": {"m": {"model": "m:1", "candidate": {"model": "m:1"}}}}, "modules.m.candid"),
        ({"strategy": {"waves": [{"selector": "="}]}}, "strategy.waves.0.selector"),
        ({"strategy": {"waves": [{"percent": 60}, {"percent": 50}]}}, "that is 110 % of all"),
        (
            {"strategy": {"windows": {"update": [{"cron": "0 0 30 2 *", "for_s": 1}]}}},
            "update.0.cron: '0 0 30 2 *' is not accepted: Bad day-of-month",
        ),
        (
            {
                "strategy": {
                    "windows": {
                        "update": [{"cron": "0 2 * * *", "for_s": 3600}],
                        "download": [{"cron": "0 3 * * *", "for_s": 3600}],
                    }
                }
            },
            "no update window is open while one of these is",
        ),
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


def test_a_document_says_sizes_with_units_and_percentages_with_their_sign() -> None:
    text = DOCUMENT.replace("soak_s: 1}", "download: {budget: 1.5MB, metered: allow}}")
    made = read(text.replace("percent: 50", "percent: 50%"))

    assert made.modules["m"].download.budget_bytes == 1_500_000
    assert made.strategy.waves[1].percent == 50


def test_an_empty_file_is_no_document() -> None:
    assert "write keys: name, target, modules" in refused("")


def test_options_beside_waves_become_parts_of_the_document() -> None:
    beside = {"model": "m", "version": "2", "mode": "canary", "gate": {"requests": 5}}
    options = rolling.Options("m:1", "all", candidate=beside, download={"budget_bytes": 7})
    wish = rolling.document(None, ["1"], options).modules["m"]

    assert wish.candidate is not None
    assert (wish.candidate.model, wish.candidate.gate.requests) == ("m:2", 5)
    assert wish.download.budget_bytes == 7


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


def plan(registry: Registry, target: str, **fields: Any) -> dict[str, list[str]]:
    """Return what is in the way of a plan, by kind."""
    wish = {"name": "planned", "target": target, "modules": {"m": {"model": "m:1"}}} | fields
    found: dict[str, list[str]] = {}
    for each in registry.post("/api/v1/rollouts/plan", wish)["obstacles"]:
        found.setdefault(each["kind"], []).append(each["text"])
    return found


def test_a_plan_for_nobody_says_why_nobody_matches(registry: Registry) -> None:
    assert plan(registry, "siet=lab")["target"] == ["no device has 'siet': did you mean 'site'?"]
    assert plan(registry, "site=moon")["target"] == ["no device matches site in (moon)"]
    registry.enrol("dev-q", labels={"site": "q"})
    assert "no device matches all of" in plan(registry, "site=q, device=dev-a")["target"][0]


def test_a_plan_says_which_waves_would_prove_nothing(registry: Registry) -> None:
    registry.enrol("dev-w", labels={"site": "w"})
    made = registry.post("/api/v1/deployments", {"model": "m", "selector": "site=w"}, 201)
    fleet.converge(registry, "dev-w", made)
    waves = [{"selector": "site=moon"}, {"count": 1}, {"count": 1}]

    told = plan(registry, "site=w", name="m", strategy={"waves": waves})["wave"]

    assert told == [
        "wave 1 is empty: no device matches site=moon",
        "wave 3 is empty: the waves before it leave no device over",
    ]


def test_a_plan_counts_what_a_device_may_spend_and_its_candidate(registry: Registry) -> None:
    registry.enrol("dev-c", labels={"site": "c"}, facts={"metered": "yes"})
    wish = {"model": "m:1", "candidate": {"model": "m:2"}, "download": {"budget_bytes": 1}}
    document = {"name": "c", "target": "site=c", "modules": {"m": wish}}

    planned = registry.post("/api/v1/rollouts/plan", document)
    told = plan(registry, "site=c", modules={"m": wish})

    assert [(each["module"], each["version"]) for each in planned["modules"]] == [
        ("m", 1),
        ("m candidate", 2),
    ]
    assert "metered: allow" in told["metered"][0]
    registry.register("m", b"12345")
    newest = {"model": "m", "download": {"budget_bytes": 4, "metered": "allow"}}
    told = plan(registry, "site=c", modules={"m": newest})
    assert told["bytes"] == ["m takes 5 bytes; its download may take 4"]
    assert "metered" not in told
