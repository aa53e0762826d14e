from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import delete

from cloud import tables
from cloud.registry import backfill, descriptions
from tests.support import registries
from tests.support.registries import Registry, Stores

MODEL, VERSION = "/api/v1/models/digits", "/api/v1/models/digits/versions/1"


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores) as running:
        yield running


def patch(registry: Registry, path: str, status: int = 200, **said: Any) -> Any:
    return registries.checked(registry.http.patch(path, json=said), status)


def events(registry: Registry, subject: str) -> list[Any]:
    found: list[Any] = registry.get(f"/api/v1/events?subject={subject}")["items"]
    return found


def test_what_is_said_at_registration_is_there(registry: Registry) -> None:
    made = registry.register(
        "digits",
        b"one",
        description="reads digits",
        tags={"task": "vision"},
        metadata={"accuracy": "0.97"},
        card="# Digits",
        aliases=["champion"],
        lineage={"run": "run-7", "code": "abc123"},
    )

    assert made["description"] == "reads digits"
    assert (made["tags"], made["metadata"]) == ({"task": "vision"}, {"accuracy": "0.97"})
    assert (made["aliases"], made["card"]) == (["champion"], True)
    assert registry.get(VERSION + "/lineage")["lineage"]["run"] == "run-7"
    assert registry.http.get(VERSION + "/card").text == "# Digits"


def test_what_is_said_later_is_merged_and_null_removes(registry: Registry) -> None:
    first = registry.register("digits", b"one", tags={"a": "1", "b": "2"}, description="x")
    changed = patch(
        registry, VERSION, tags={"b": None, "c": "3"}, metadata={"k": "v"}, description=None
    )

    assert changed["tags"] == {"a": "1", "c": "3"}
    assert changed["metadata"] == {"k": "v"}
    assert changed["description"] == ""
    assert changed["revision"] > first["revision"]
    assert registry.get(VERSION) == changed


def test_a_model_has_a_description_tags_metadata_and_a_card_of_its_own(registry: Registry) -> None:
    registry.register("digits", b"one")
    changed = patch(
        registry, MODEL, description="all digits", tags={"a": "1"}, metadata={"b": "2"}, card="# M"
    )

    assert changed["description"] == "all digits"
    assert (changed["tags"], changed["metadata"], changed["card"]) == ({"a": "1"}, {"b": "2"}, True)
    assert changed["latest"]["tags"] == {}
    assert registry.http.get(MODEL + "/card").text == "# M"


def test_a_version_without_a_card_shows_that_of_its_model(registry: Registry) -> None:
    registry.register("digits", b"one")
    assert registry.http.get(VERSION + "/card").status_code == 404
    patch(registry, MODEL, card="# Of the model")
    inherited = registry.http.get(VERSION + "/card")
    patch(registry, VERSION, card="# Its own")

    assert inherited.headers["content-type"] == "text/markdown; charset=utf-8"
    assert inherited.text == "# Of the model"
    assert registry.http.get(VERSION + "/card").text == "# Its own"
    patch(registry, VERSION, card=None)
    assert registry.http.get(VERSION + "/card").text == "# Of the model"


def test_a_change_is_told_once_and_none_not_at_all(registry: Registry) -> None:
    registry.register("digits", b"one")
    for _ in range(2):
        patch(registry, VERSION, tags={"a": "1"}, card="# secret plans")
    told = [each for each in events(registry, "digits:1") if each["kind"] == "version.updated"]

    assert len(told) == 1
    assert told[0]["data"]["tags"] == {"a": "1"}
    assert "secret" not in str(told[0])


def test_the_same_content_with_other_words_changes_those_of_the_version(
    registry: Registry,
) -> None:
    registry.register("digits", b"one", tags={"a": "1"}, description="first")
    again = registry.register("digits", b"one", tags={"b": "2"}, aliases=["canary"])
    kinds = [each["kind"] for each in events(registry, "digits:1")]

    assert (again["version"], again["created"]) == (1, False)
    assert again["tags"] == {"a": "1", "b": "2"}
    assert (again["description"], again["aliases"]) == ("first", ["canary"])
    assert kinds == ["version.registered", "version.updated"]


@pytest.mark.parametrize(
    "said",
    [
        {"tags": {"": "x"}},
        {"tags": {"a b": "x"}},
        {"tags": {"a": "x" * 257}},
        {"tags": {f"k{n}": "v" for n in range(descriptions.MAX_TAGS + 1)}},
        {"metadata": {"a": "é" * 1025}},
        {"metadata": {f"k{n}": "v" * 2000 for n in range(40)}},
        {"description": "x" * 4097},
        {"description": "a\0b"},
        {"card": "é" * (descriptions.MAX_CARD_BYTES // 2 + 1)},
        {"lineage": {"parent": "digits:1"}},
        {"lineage": {"parent": "a:b:c"}},
        {"lineage": {"data": [{"uri": "x"}] * 33}},
        {"lineage": {"extra": {"bad key": "x"}}},
        {"unknown": 1},
    ],
)
def test_what_is_beyond_the_limits_is_refused_and_changes_nothing(
    registry: Registry, said: dict[str, Any]
) -> None:
    before = registry.register("digits", b"one")
    del before["created"]
    patch(registry, VERSION, 422, **said)

    assert registry.get(VERSION) == before
    assert len(events(registry, "digits:1")) == 1


def test_a_refused_registration_leaves_no_version(registry: Registry) -> None:
    registry.register("digits", b"one")
    for said in ({"aliases": ["1"]}, {"aliases": ["latest"]}, {"lineage": {"parent": "digits:9"}}):
        made = registries.one_file_index("digits", b"two")[0]
        registry.http.put(f"/api/v1/blobs/{made.files[0].sha256}", content=b"two")
        encoded = registries.index.encode(made)
        bundle = registries.digests.of_bytes(encoded)
        registry.http.put(f"/api/v1/blobs/{bundle}", content=encoded)
        answer = registry.http.post(MODEL + "/versions", json={"bundle": bundle, **said})
        assert answer.status_code in {404, 422}

    assert registry.get(MODEL)["versions"] == 1
    assert registry.register("digits", b"two")["version"] == 2


def test_a_version_of_before_there_was_search_is_found_after_a_start(registry: Registry) -> None:
    registry.register("digits", b"one", tags={"a": "1"}, aliases=["champion"])
    with registry.services.transaction() as session:
        session.exec(delete(tables.SearchEntry))
    query = "/api/v1/versions?query=input.x = FP32[-1,2] AND tag.a = 1 AND alias = champion"
    before = registry.get(query)["items"]

    assert (before, backfill.run(registry.services)) == ([], 1)
    assert [each["model"] for each in registry.get(query)["items"]] == ["digits"]
    assert [each["name"] for each in registry.get("/api/v1/models")["items"]] == ["digits"]
    assert backfill.run(registry.services) == 0
