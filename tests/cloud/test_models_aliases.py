import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud import references
from runtime.errors import InvalidError
from tests.support import registries
from tests.support.registries import Registry, Stores

ALIASES = "/api/v1/models/digits/aliases"


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores) as running:
        for content in (b"1", b"2", b"3"):
            running.register("digits", content)
        yield running


def move(registry: Registry, alias: str, version: int | str, status: int = 200) -> Any:
    answer = registry.http.put(f"{ALIASES}/{alias}", json={"version": version})
    return registries.checked(answer, status)


def events(registry: Registry, alias: str) -> list[Any]:
    found = registry.get(f"/api/v1/events?subject=digits@{alias}")["items"]
    return [(each["kind"], each["data"]["from"], each["data"]["to"]) for each in found]


def test_an_alias_names_a_version_until_it_moves(registry: Registry) -> None:
    move(registry, "champion", 1)
    first = registry.get("/api/v1/models/digits/versions/champion")["version"]
    move(registry, "champion", "latest")
    move(registry, "canary", "champion")

    assert first == 1
    assert registry.get("/api/v1/models/digits/versions/champion")["version"] == 3
    assert registry.get("/api/v1/models/digits")["aliases"] == {"canary": 3, "champion": 3}
    assert registry.get("/api/v1/models/digits/versions/3")["aliases"] == ["canary", "champion"]
    assert registry.get("/api/v1/models/digits/versions/1")["aliases"] == []
    assert [each["name"] for each in registry.get(ALIASES)["items"]] == ["canary", "champion"]


def test_each_move_is_in_the_history_and_a_move_to_the_same_is_none(registry: Registry) -> None:
    for version in (1, 1, 2):
        move(registry, "champion", version)
    assert registry.http.delete(f"{ALIASES}/champion").status_code == 204

    assert events(registry, "champion") == [
        ("alias.moved", None, 1),
        ("alias.moved", 1, 2),
        ("alias.removed", 2, None),
    ]
    assert registry.http.get("/api/v1/models/digits/versions/champion").status_code == 404
    assert registry.http.delete(f"{ALIASES}/champion").status_code == 404


@pytest.mark.parametrize("alias", ["1", "latest", "Champion", "a_b", "a" * 64, "%20"])
def test_what_could_be_taken_for_something_else_is_no_alias(registry: Registry, alias: str) -> None:
    move(registry, alias, 1, 422)


@pytest.mark.parametrize(("version", "status"), [(4, 404), ("none", 404), ("A", 422), (0, 422)])
def test_an_alias_needs_a_version(registry: Registry, version: int | str, status: int) -> None:
    move(registry, "champion", version, status)

    assert registry.get(ALIASES)["items"] == []


def test_a_deployment_by_alias_stays_with_the_version_of_that_moment(registry: Registry) -> None:
    move(registry, "champion", 2)
    wish = {"model": "digits", "version": "champion", "selector": "all"}
    made = registry.post("/api/v1/deployments", wish)
    move(registry, "champion", 3)
    shown = registry.get(f"/api/v1/deployments/{made['id']}")["deployment"]
    newest = registry.post("/api/v1/deployments", {**wish, "version": "latest"})

    assert (shown["version"], shown["alias"]) == (2, "champion")
    assert (newest["version"], newest["alias"]) == (3, None)
    absent = registry.http.post("/api/v1/deployments", json={**wish, "version": "nobody"})
    assert absent.status_code == 404


def test_moves_at_once_leave_one_chain_of_moves(registry: Registry) -> None:
    """Each event begins where the one before ended: no move is lost or seen half."""
    threads = [
        threading.Thread(target=move, args=(registry, "champion", number % 3 + 1))
        for number in range(9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = events(registry, "champion")

    assert [before for _kind, before, _after in told[1:]] == [after for *_rest, after in told[:-1]]
    assert registry.get(ALIASES)["items"][0]["version"] == told[-1][2]
    assert registry.get(ALIASES)["items"][0]["revision"] == len(told)


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("digits", "digits", "latest"),
        ("digits:3", "digits", "3"),
        ("digits:champion", "digits", "champion"),
        ("digits@champion", "digits", "champion"),
    ],
)
def test_a_version_is_named_by_number_or_alias(text: str, name: str, version: str) -> None:
    assert references.parse(text) == references.Reference(name, version)


@pytest.mark.parametrize("text", ["", ":", "a:", "a:b:c", "@x", "a@", "a@1", "a@latest", "a:1@x"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        references.parse(text)
