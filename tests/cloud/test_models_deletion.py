import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from cloud import tables
from cloud.registry import models
from runtime import digests
from runtime.bundle import index
from runtime.bundle.index import Uses
from runtime.digests import Digest
from tests.support import registries
from tests.support.fleet import add_records, converge
from tests.support.registries import Registry, Stores, one_file_index

VERSION = "/api/v1/models/m/versions"


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores) as running:
        for content in (b"1", b"2"):
            running.register("m", content)
        yield running


def delete(registry: Registry, path: str, status: int = 200) -> Any:
    return registries.checked(registry.http.delete(path), status)


def deploy(registry: Registry, version: int | str, **wish: Any) -> Any:
    made = {"model": "m", "version": version, "selector": "all", **wish}
    return registry.post("/api/v1/deployments", made)


def count(registry: Registry, table: Any) -> int:
    with registry.services.reading() as session:
        return len(session.exec(select(table)).all())


def ensemble(registry: Registry, name: str, *uses: Uses) -> Any:
    """Register a bundle that says it is made of other versions."""
    made, content = one_file_index(name, name.encode())
    made = index.msgspec.structs.replace(made, uses=uses)
    encoded = index.encode(made)
    for blob in (content, encoded):
        registry.http.put(f"/api/v1/blobs/{digests.of_bytes(blob)}", content=blob)
    wish = {"bundle": digests.of_bytes(encoded)}
    return registry.http.post(f"/api/v1/models/{name}/versions", json=wish)


def test_a_version_in_use_is_not_deleted_and_everyone_who_uses_it_is_named(
    registry: Registry,
) -> None:
    made = deploy(registry, 1, name="night shift")
    registry.http.put("/api/v1/models/m/aliases/champion", json={"version": 1})
    bundle = Digest(registry.get(f"{VERSION}/1")["bundle"])
    assert ensemble(registry, "both", Uses("m", 1, bundle)).status_code == 201
    refused = delete(registry, f"{VERSION}/1", 409)

    assert refused["type"] == "urn:packhorse:problem:still-used"
    assert refused["users"] == [
        f"deployment {made['id']} (night shift)",
        "alias m@champion",
        "ensemble both:1",
    ]
    assert all(user in refused["detail"] for user in refused["users"])
    assert [each["kind"] for each in registry.get(f"{VERSION}/1/usage")["users"]] == [
        "deployment",
        "alias",
        "ensemble",
    ]
    assert delete(registry, "/api/v1/models/m", 409)["users"] == [
        f"{user}: m:1" for user in refused["users"]
    ]
    assert registry.get("/api/v1/models/m")["versions"] == 2


def test_it_is_deleted_once_nothing_uses_it(registry: Registry) -> None:
    made = deploy(registry, 1)
    registry.http.put("/api/v1/models/m/aliases/champion", json={"version": 1})
    registry.post(f"/api/v1/deployments/{made['id']}/cancel")
    registry.http.put("/api/v1/models/m/aliases/champion", json={"version": 2})
    answer = delete(registry, f"{VERSION}/1")

    assert answer == {"deleted": "m:1", "running": []}
    assert registry.http.get(f"{VERSION}/1").status_code == 404
    assert registry.get(f"/api/v1/deployments/{made['id']}")["deployment"]["version"] == 1


def test_deletion_leaves_no_row_but_history_and_records(registry: Registry) -> None:
    said = {"tags": {"a": "1"}, "metadata": {"b": "2"}, "card": "# words", "description": "more"}
    bundle = registry.register("gone", b"x", **said)["bundle"]
    registry.enrol("one")
    add_records(registry, "one", 1, [1.0])
    delete(registry, "/api/v1/models/gone/versions/1")
    delete(registry, "/api/v1/models/gone")
    for number in (1, 2):
        delete(registry, f"{VERSION}/{number}")
    delete(registry, "/api/v1/models/m")
    kinds = [each["kind"] for each in registry.get("/api/v1/events?subject=gone:1")["items"]]

    for table in (
        tables.Version,
        tables.Bundle,
        tables.BundleBlob,
        tables.Card,
        tables.SearchEntry,
        tables.SearchFact,
        tables.SearchText,
        tables.SearchWord,
        tables.SearchEntryText,
    ):
        assert count(registry, table) == 0, table
    assert kinds == ["version.registered", "version.deleted"]
    assert count(registry, tables.Record) == 1
    with registry.services.reading() as session:
        assert models.blobs_of(session, [bundle]) == {}


def test_a_bundle_that_another_version_has_stays(registry: Registry) -> None:
    registry.register("m", b"1")
    first, third = registry.get(f"{VERSION}/1"), registry.get(f"{VERSION}/3")
    delete(registry, f"{VERSION}/1")

    assert first["bundle"] == third["bundle"]
    assert count(registry, tables.Bundle) == 2
    assert registry.http.get(f"{VERSION}/3/index").status_code == 200


def test_numbers_are_given_once(registry: Registry) -> None:
    delete(registry, f"{VERSION}/2")
    third = registry.register("m", b"2")
    for number in (1, 3):
        delete(registry, f"{VERSION}/{number}")
    emptied = registry.get("/api/v1/models/m")
    delete(registry, "/api/v1/models/m")
    fourth = registry.register("m", b"4")

    assert (third["version"], fourth["version"]) == (3, 4)
    assert (emptied["versions"], emptied["latest"]) == (0, None)
    assert [each["name"] for each in registry.get("/api/v1/models")["items"]] == ["m"]
    assert registry.get("/api/v1/models/m")["versions"] == 1


def test_a_model_without_versions_stays_and_says_so(registry: Registry) -> None:
    for number in (1, 2):
        delete(registry, f"{VERSION}/{number}")

    assert [each["name"] for each in registry.get("/api/v1/models")["items"]] == ["m"]
    assert registry.get(VERSION)["items"] == []
    absent = registry.http.get(f"{VERSION}/latest")
    assert absent.status_code == 404
    assert "all were deleted" in absent.json()["detail"]
    wish = {"model": "m", "selector": "all"}
    assert registry.http.post("/api/v1/deployments", json=wish).status_code == 404


def test_a_deleted_model_is_gone_and_begins_anew(registry: Registry) -> None:
    registry.http.patch("/api/v1/models/m", json={"tags": {"a": "1"}, "card": "# old"})
    delete(registry, "/api/v1/models/m")
    for path in ("/api/v1/models/m", VERSION, f"{VERSION}/1", "/api/v1/models/m/card"):
        assert registry.http.get(path).status_code == 404
    assert delete(registry, "/api/v1/models/m", 404)
    assert registry.http.put("/api/v1/models/m/aliases/x", json={"version": 1}).status_code == 404
    registry.register("m", b"1")

    assert registry.get("/api/v1/models/m")["tags"] == {}
    assert registry.http.get("/api/v1/models/m/card").status_code == 404


def test_a_device_that_still_runs_it_is_told_of_but_hinders_nothing(registry: Registry) -> None:
    registry.enrol("one")
    made = deploy(registry, 1)
    converge(registry, "one", made)
    registry.post(f"/api/v1/deployments/{made['id']}/cancel")

    assert registry.get(f"{VERSION}/1/usage") == {"users": [], "running": ["one"]}
    assert delete(registry, f"{VERSION}/1") == {"deleted": "m:1", "running": ["one"]}


def test_an_ensemble_of_what_is_not_here_is_refused(registry: Registry) -> None:
    bundle = Digest(registry.get(f"{VERSION}/1")["bundle"])

    assert ensemble(registry, "e", Uses("m", 1, Digest("0" * 64))).status_code == 422
    assert ensemble(registry, "e", Uses("x", 1, bundle)).status_code == 422
    assert ensemble(registry, "e", Uses("m", 1, bundle)).status_code == 201


def test_what_an_ensemble_uses_is_found_by_content_whatever_its_number_is_here(
    registry: Registry,
) -> None:
    bundle = Digest(registry.get(f"{VERSION}/1")["bundle"])

    assert ensemble(registry, "e", Uses("m", 9, bundle)).status_code == 201
    assert delete(registry, f"{VERSION}/1", 409)["users"] == ["ensemble e:1"]


def test_a_deployment_and_a_deletion_at_once_never_leave_a_deployment_of_nothing(
    registry: Registry,
) -> None:
    for number in range(2, 10):
        registry.register("m", b"%d" % number)
    statuses: list[tuple[int, int, int]] = []

    def race(number: int) -> None:
        start = threading.Barrier(2)
        found: dict[str, int] = {}

        def act(name: str, method: str, path: str, body: Any) -> None:
            start.wait()
            found[name] = registry.http.request(method, path, json=body).status_code

        wish = {"model": "m", "version": number, "selector": "all"}
        pair = [
            threading.Thread(target=act, args=("deploy", "POST", "/api/v1/deployments", wish)),
            threading.Thread(target=act, args=("delete", "DELETE", f"{VERSION}/{number}", None)),
        ]
        for thread in pair:
            thread.start()
        for thread in pair:
            thread.join()
        statuses.append((number, found["deploy"], found["delete"]))

    for number in range(2, 10):
        race(number)

    assert {(made, gone) for _number, made, gone in statuses} <= {(201, 409), (404, 200)}
    for number, made, _gone in statuses:
        shown = registry.http.get(f"{VERSION}/{number}").status_code
        assert shown == {201: 200, 404: 404}[made]
