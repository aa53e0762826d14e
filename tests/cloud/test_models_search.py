from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud.registry import query_reader
from runtime.errors import InvalidError
from tests.support import registries
from tests.support.registries import Registry, Stores


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores) as running:
        yield running


def found(registry: Registry, query: str, what: str = "versions", **more: Any) -> list[str]:
    """Search and return names, all pages of two."""
    names: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        params = {"query": query, "limit": 2, **more, **cursor}
        page = registries.checked(registry.http.get(f"/api/v1/{what}", params=params), 200)
        names += [
            each["name"] if what == "models" else f"{each['model']}:{each['version']}"
            for each in page["items"]
        ]
        if page["next"] is None:
            return names
        cursor = {"cursor": page["next"]}


def test_versions_are_found_by_all_that_is_known_of_them(registry: Registry) -> None:
    registry.register("pump", b"1", tags={"task": "anomaly"}, description="bearing vibration")
    registry.register("pump", b"2", metadata={"accuracy": "0.93"}, card="# Pump\n\nReads *flow*.")
    registry.register("fan-old", b"3", aliases=["champion"], lineage={"parent": "pump:1"})
    registry.http.patch("/api/v1/models/pump", json={"tags": {"team": "edge"}})

    for query, names in {
        "": ["fan-old:1", "pump:1", "pump:2"],
        "tag.task = anomaly": ["pump:1"],
        "tag.team = edge AND NOT tag.task": ["pump:2"],
        "tag.team = edge, metadata.accuracy > 0.9": ["pump:2"],
        'text ~ "Vibration"': ["pump:1"],
        "text ~ flow or alias in (champion)": ["fan-old:1", "pump:2"],
        "input.x = FP32[-1,2] and version = 1": ["fan-old:1", "pump:1"],
        "output = [-1,2] and name !~ old and latest": ["pump:2"],
        "lineage.parent = pump:1": ["fan-old:1"],
        "created_at > 2100-01-01": [],
        "created_by = key:admin AND NOT name in (pump)": ["fan-old:1"],
    }.items():
        assert found(registry, query) == names, query


def test_a_models_tags_are_its_versions_unless_they_have_their_own(registry: Registry) -> None:
    registry.register("m", b"1", tags={"stage": "test"})
    registry.http.patch("/api/v1/models/m", json={"tags": {"stage": "live"}})
    registry.register("m", b"2")

    assert found(registry, "tag.stage = live") == ["m:2"]
    registry.http.patch("/api/v1/models/m/versions/1", json={"tags": {"stage": None}})
    assert found(registry, "tag.stage = live") == ["m:1", "m:2"]
    registry.http.patch("/api/v1/models/m", json={"tags": {"stage": None}})
    assert found(registry, "tag.stage") == []


def test_a_model_is_found_as_its_newest_version(registry: Registry) -> None:
    registry.register("a", b"1", tags={"x": "1"})
    registry.register("a", b"2")
    registry.register("b", b"3", tags={"x": "1"})

    assert found(registry, "tag.x = 1", "models") == ["b"]
    registry.http.delete("/api/v1/models/a/versions/2")
    assert found(registry, "tag.x = 1", "models") == ["a", "b"]
    registry.http.delete("/api/v1/models/a/versions/1")
    assert found(registry, "name = a", "models") == ["a"]
    assert found(registry, "name = a AND kind", "models") == []


@pytest.mark.parametrize("sort", ["name", "-created_at", "size_bytes", "-version", "updated_at"])
def test_pages_neither_repeat_nor_leave_out_while_others_register(
    registry: Registry, sort: str
) -> None:
    for number in range(7):
        registry.clock.at += number % 2
        registry.register(f"m{number}", b"x" * (number % 3 + 1))
    before = set(found(registry, "", sort=sort))
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 2, "sort": sort}
    for number in range(20):
        page = registries.checked(registry.http.get("/api/v1/versions", params=params), 200)
        seen += [f"{each['model']}:{each['version']}" for each in page["items"]]
        registry.clock.at += 1
        registry.register(f"m{number % 7}", b"later %d" % number)
        registry.register(f"a{number}", b"new")
        params["cursor"] = page["next"]
        if page["next"] is None or len(seen) > 40:
            break

    assert len(set(seen)) == len(seen)
    assert before <= set(seen)


@pytest.mark.parametrize(
    "params",
    [
        {"query": "tag.task ="},
        {"query": "x" * 2049},
        {"query": "tag.a = 'x\0y'"},
        {"sort": "colour"},
        {"sort": "--name"},
        {"cursor": "x"},
        {"cursor": "WyJuYW1lIiwxLDJd"},
        {"cursor": "WyJ2ZXJzaW9uIiwxLCJhIl0"},
        {"cursor": "WyJuYW1lIiwiXHVkODAwIiwxXQ"},  # ["name","\ud800",1]: half a character
        {"limit": 0},
        {"limit": 201},
    ],
)
@pytest.mark.parametrize("what", ["models", "versions"])
def test_what_cannot_be_read_is_refused(
    registry: Registry, what: str, params: dict[str, Any]
) -> None:
    assert registry.http.get(f"/api/v1/{what}", params=params).status_code == 422


@pytest.mark.parametrize(
    ("query", "at", "wanted"),
    [
        ("tag.task =", 11, "a value"),
        ("colour = red", 1, "one of the fields"),
        ("name = a AND", 13, "one of the fields"),
        ("(name = a", 10, "AND, OR or ')'"),
        ("name = a)", 9, "AND, OR, or the end"),
        ("name > 3", 6, "!= or ~"),
        ("latest = 1", 8, "it stands alone"),
        ("text = a", 6, "~ or !~"),
        ("tag.a > b", 9, "a number"),
        ("created_at > noon", 14, "a time"),
        ("name = a; name = b", 9, "a field, a value or an operator"),
        ("!" * 20 + "latest", 18, "at most 16 levels"),
        (" or ".join(["latest"] * 65), 641, "at most 64 conditions"),
    ],
)
def test_a_mistake_is_pointed_at(query: str, at: int, wanted: str) -> None:
    with pytest.raises(InvalidError) as caught:
        query_reader.parse(query)

    assert f"at character {at} expected" in str(caught.value)
    assert wanted in str(caught.value)


def test_a_change_needs_the_revision_that_was_read(registry: Registry) -> None:
    registry.register("m", b"1")
    for path in ("/api/v1/models/m", "/api/v1/models/m/versions/1"):
        etag = registry.http.get(path).headers["etag"]
        fresh = registry.http.patch(path, json={"description": "a"}, headers={"If-Match": etag})
        stale = registry.http.patch(path, json={"description": "b"}, headers={"If-Match": etag})
        again = registry.http.get(path, headers={"If-None-Match": fresh.headers["etag"]})

        assert (fresh.status_code, stale.status_code, again.status_code) == (200, 412, 304)
        assert registry.http.delete(path, headers={"If-Match": etag}).status_code == 412


def test_an_alias_moves_only_from_where_it_was_read(registry: Registry) -> None:
    for content in (b"1", b"2", b"3"):
        registry.register("m", content)
    path = "/api/v1/models/m/aliases/champion"
    etag = registry.http.put(path, json={"version": 1}).headers["etag"]
    moved = registry.http.put(path, json={"version": 2}, headers={"If-Match": etag})
    late = registry.http.put(path, json={"version": 3}, headers={"If-Match": etag})

    assert (moved.status_code, late.status_code) == (200, 412)
    assert registry.get(path)["version"] == 2
