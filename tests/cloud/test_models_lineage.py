from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import registries
from tests.support.registries import Registry, Stores


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores) as running:
        yield running


def line(registry: Registry, name: str, *parents: str | None) -> None:
    """Register versions 1, 2... of a model with these parents."""
    for number, parent in enumerate(parents, 1):
        said = {} if parent is None else {"lineage": {"parent": parent}}
        registry.register(name, f"{name}{number}".encode(), **said)


def tree(registry: Registry, name: str, version: int) -> list[tuple[str, int, bool]]:
    found = registry.get(f"/api/v1/models/{name}/versions/{version}/lineage")["relatives"]
    return [
        (f"{each['model']}:{each['version']}", each["depth"], each["present"]) for each in found
    ]


def set_lineage(registry: Registry, name: str, version: int, **lineage: Any) -> Any:
    path = f"/api/v1/models/{name}/versions/{version}"
    return registry.http.patch(path, json={"lineage": lineage})


def test_all_that_a_version_comes_from_is_kept(registry: Registry) -> None:
    registry.register("base", b"0")
    data = [{"uri": "s3://bucket/train", "digest": "sha256:ab"}, {"uri": "file.csv"}]
    said = {
        "run": "run-7",
        "code": "git@example.org:x#abc",
        "data": data,
        "parent": "base:1",
        "trained_by": "ann",
        "trained_at": 1_700_000_000.5,
        "extra": {"gpu": "A100"},
    }
    registry.register("digits", b"1", lineage=said)
    found = registry.get("/api/v1/models/digits/versions/1/lineage")
    shown = found["lineage"]

    assert {name: shown[name] for name in said} == said
    assert shown["recorded_by"] == "key:admin"
    assert (found["registered_by"], found["registered_at"]) == ("key:admin", registry.clock.at)


def test_a_tree_shows_ancestors_and_descendants(registry: Registry) -> None:
    line(registry, "a", None, "a:1", "a:2", "a:2")
    line(registry, "b", "a:3")

    assert tree(registry, "a", 2) == [
        ("a:1", -1, True),
        ("a:2", 0, True),
        ("a:3", 1, True),
        ("b:1", 2, True),
        ("a:4", 1, True),
    ]


def test_lineage_is_changed_field_by_field_and_removed_by_null(registry: Registry) -> None:
    line(registry, "a", None, "a:1")
    set_lineage(registry, "a", 2, run="run-1", extra={"k": "v", "l": "w"})
    set_lineage(registry, "a", 2, code="abc", extra={"k": None})
    both = registry.get("/api/v1/models/a/versions/2/lineage")["lineage"]
    registry.http.patch("/api/v1/models/a/versions/2", json={"lineage": None})
    gone = registry.get("/api/v1/models/a/versions/2/lineage")["lineage"]

    assert (both["run"], both["code"], both["parent"]) == ("run-1", "abc", "a:1")
    assert both["extra"] == {"l": "w"}
    assert (gone["run"], gone["parent"], gone["extra"]) == (None, None, {})


def test_nobody_is_its_own_ancestor(registry: Registry) -> None:
    line(registry, "a", None, "a:1", "a:2")

    for parent in ("a:1", "a:2", "a:3", "a"):
        answer = set_lineage(registry, "a", 1, parent=parent)
        assert answer.status_code == 422
        assert "cannot come from itself" in answer.json()["detail"]


@pytest.mark.parametrize(("parent", "status"), [("a:9", 404), ("x:1", 404), ("a@none", 404)])
def test_a_parent_must_exist(registry: Registry, parent: str, status: int) -> None:
    line(registry, "a", None)

    assert set_lineage(registry, "a", 1, parent=parent).status_code == status


def test_a_parent_may_be_named_by_alias_and_is_kept_by_number(registry: Registry) -> None:
    line(registry, "a", None, None)
    registry.http.put("/api/v1/models/a/aliases/base", json={"version": 1})
    set_lineage(registry, "a", 2, parent="a@base")

    assert registry.get("/api/v1/models/a/versions/2/lineage")["lineage"]["parent"] == "a:1"


def test_a_deleted_version_stays_in_the_tree(registry: Registry) -> None:
    line(registry, "a", None, "a:1", "a:2")
    registries.checked(registry.http.delete("/api/v1/models/a/versions/2"), 200)

    assert tree(registry, "a", 3) == [("a:1", -2, True), ("a:2", -1, False), ("a:3", 0, True)]
    assert set_lineage(registry, "a", 3, parent="a:2").status_code == 404
