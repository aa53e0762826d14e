import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.cli import completing, main
from tests.support import bundle_sources, registries
from tests.support.command_line import Run
from tests.support.registries import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path / "data") as running:
        yield running


def test_all_that_is_said_at_a_push_is_shown(run: Run, tmp_path: Path) -> None:
    source = bundle_sources.write_checked_bundle(tmp_path / "scale", factor=2.0)
    card = tmp_path / "card.md"
    card.write_text("# Scale\n\nIt *scales*.\n")
    options = ("--tag", "task=math", "--meta", "classes=a,b", "--description", "doubles")
    origin = ("--run", "run-7", "--commit", "abc", "--data", "s3://x#d1", "--trained-by", "ann")
    made = run(
        *("models", "push", source, *options, "--card", card, "--alias", "champion", *origin),
        "--json",
    ).json()
    shown = run("models", "show", "scale@champion").out

    assert (made["tags"], made["metadata"]) == ({"task": "math"}, {"classes": "a,b"})
    for words in ("champion", "task=math", "classes=a,b", "doubles", "packhorse models card"):
        assert words in shown
    assert run("models", "card", "scale").out == card.read_text() + "\n"
    assert run("models", "card", "scale", "--json").json() == {"card": card.read_text()}
    tree = run("models", "lineage", "scale:champion").out
    assert "scale:1 *  run run-7  code abc  by ann" in tree
    assert "s3://x (d1)" in tree


def test_a_model_and_a_version_are_described_later(run: Run, registry: Registry) -> None:
    registry.register("m", b"1", tags={"old": "1"})
    version = run(
        "models", "set", "m:1", "--tag", "a=b=c", "--untag", "old", "--description", "new", "--json"
    ).json()
    model = run("models", "set", "m", "--meta", "team=edge", "--json").json()

    assert (version["tags"], version["description"]) == ({"a": "b=c"}, "new")
    assert model["metadata"] == {"team": "edge"}
    assert run("models", "set", "m@latest", "--tag", "x").code == main.BAD_INPUT
    assert run("models", "set", "m").code == main.BAD_INPUT
    assert "NAME:VERSION" in run("models", "set", "m", "--run", "r").err


def test_models_are_searched_for_and_sorted(run: Run, registry: Registry) -> None:
    for number, name in enumerate(("fan", "pump", "pump-old")):
        registry.clock.at += 1
        registry.register(name, name.encode(), tags={"n": str(number)})
    query = 'tag.n >= 1 AND NOT name ~ "old" AND input.x = FP32[-1,2]'
    found = run("models", "search", query, "--json").json()
    named = run("models", "search", "tag.n < 2", "--models", "--sort", "-created_at", "--json")
    listed = run("models", "list", "--sort", "-created_at").out
    wrong = run("models", "search", "tag.n >= x")

    assert [each["model"] for each in found] == ["pump"]
    assert [each["name"] for each in named.json()] == ["pump", "fan"]
    names = re.findall(r"^ ?(fan|pump-old|pump) ", listed, re.MULTILINE)
    assert names == ["pump-old", "pump", "fan"], listed
    assert "pump:1" in run("models", "search", query).out
    assert "Nothing" in run("models", "search", "name = none").err
    assert wrong.code == main.BAD_INPUT
    assert "expected a number" in wrong.err
    assert run("models", "list", "--sort", "colour").code == main.BAD_INPUT


def test_aliases_are_set_listed_deployed_and_removed(run: Run, registry: Registry) -> None:
    registry.register("m", b"1")
    registry.register("m", b"2")
    moved = run("models", "alias", "set", "m:1", "champion").out
    run("models", "alias", "set", "m", "canary")
    listed = run("models", "alias", "list", "m", "--json").json()
    deployed = run("deploy", "m@champion", "--to", "all", "--json").json()

    assert moved == "m@champion: m:1\n"
    assert [(each["name"], each["version"]) for each in listed] == [("canary", 2), ("champion", 1)]
    assert (deployed["version"], deployed["alias"]) == (1, "champion")
    assert run("models", "alias", "remove", "m@canary").code == 0
    assert "canary" not in run("models", "alias", "list", "m").out
    assert run("models", "alias", "remove", "m").code == main.BAD_INPUT
    assert run("models", "alias", "set", "m:1", "latest").code == main.BAD_INPUT
    assert run("deploy", "m@nobody", "--to", "all").code == main.NOT_FOUND


def test_lineage_is_drawn_as_a_tree(run: Run, registry: Registry) -> None:
    registry.register("m", b"1")
    for content, parent in ((b"2", "m:1"), (b"3", "m:2"), (b"4", "m:1")):
        registry.register("m", content, lineage={"parent": parent})
    lines = [line.rstrip() for line in run("models", "lineage", "m:1").out.splitlines()]

    assert lines[:4] == ["m:1 *", "├── m:2", "│   └── m:3", "└── m:4"]
    assert run("models", "lineage", "m:3", "--json").json()["relatives"][0]["depth"] == -2


def test_a_deletion_asks_tells_who_uses_it_and_never_leaves_the_number_free(
    run: Run, registry: Registry
) -> None:
    for content in (b"1", b"2"):
        registry.register("m", content)
    run("models", "alias", "set", "m:1", "champion")
    tried = run("models", "delete", "m:1", "--dry-run")
    refused = run("models", "delete", "m@champion", "--yes")
    unasked = run("models", "delete", "m:2")
    run("models", "alias", "remove", "m@champion")

    assert (tried.code, refused.code, unasked.code) == (main.FAILED, main.FAILED, main.FAILED)
    assert "m@champion" in tried.out
    assert "alias m@champion" in refused.err
    assert "Nothing uses m:1" in run("models", "delete", "m:1", "--dry-run").err
    assert run("models", "delete", "m:1", "--yes").out == "m:1: deleted\n"
    assert run("models", "delete", "m", "--yes").out == "m: deleted\n"
    assert run("models", "show", "m").code == main.NOT_FOUND
    assert registry.register("m", b"3")["version"] == 3


def test_a_model_without_versions_is_listed(run: Run, registry: Registry) -> None:
    registry.register("m", b"1")
    run("models", "delete", "m:1", "--yes")

    assert "none" in run("models", "list").out
    assert run("models", "list", "--json").json()[0]["latest"] is None


def test_the_shell_completes_names_and_aliases_and_keeps_silent_without_a_registry(
    run: Run, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pump", "pump-old", "fan", "old-pump"):
        registry.register(name, name.encode())
    run("models", "alias", "set", "pump:1", "champion")

    assert completing.models("pu") == ["pump", "pump-old"]
    assert completing.models("") == ["fan", "old-pump", "pump", "pump-old"]
    assert completing.models("pump@c") == ["pump@champion"]
    assert completing.models('x" OR') == []
    assert completing.models("none:") == []
    monkeypatch.setenv("PACKHORSE_URL", "https://127.0.0.1:9")
    assert completing.models("pu") == []
