from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from tests.support import registries
from tests.support.fleet import add_records, converge
from tests.support.registries import Registry, Stores


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores) as running:
        running.register("m", b"1")
        yield running


def test_a_deployment_tells_for_each_device_where_it_is_and_why(registry: Registry) -> None:
    for device in ("one", "two", "other"):
        registry.enrol(device, labels={"site": "far" if device == "other" else "lab"})
    deployment = registry.post(
        "/api/v1/deployments", {"model": "m", "selector": "site=lab", "name": "first"}, 201
    )
    converge(registry, "one", deployment)
    shown = registry.get(f"/api/v1/deployments/{deployment['id']}")

    assert deployment["id"].startswith("dep-")
    assert [(each["device"], each["stage"]) for each in shown["devices"]] == [
        ("one", "running"),
        ("two", "waiting"),
    ]
    assert shown["devices"][1]["reason"] == "the device has never connected"
    assert shown["overview"]["selected"] == 2
    assert shown["overview"]["by_stage"] == {"running": 1, "waiting": 1}
    assert not shown["overview"]["complete"]
    converge(registry, "two", deployment)
    assert registry.get(f"/api/v1/deployments/{deployment['id']}")["overview"]["complete"]


def test_the_devices_of_a_deployment_come_in_pages(registry: Registry) -> None:
    for device in ("a", "b", "c"):
        registry.enrol(device)
    path = "/api/v1/deployments"
    path += "/" + registry.post(path, {"model": "m", "selector": "all"}, 201)["id"]
    first = registry.get(f"{path}?limit=2")
    rest = registry.get(f"{path}?limit=2&cursor={first['next']}")

    assert [each["device"] for each in first["devices"] + rest["devices"]] == ["a", "b", "c"]
    assert first["overview"] == rest["overview"]
    assert rest["next"] is None


def test_an_older_deployment_says_by_which_it_is_superseded(registry: Registry) -> None:
    registry.enrol("one")
    old = registry.post("/api/v1/deployments", {"model": "m", "selector": "all"}, 201)
    registry.register("m", b"2")
    new = registry.post("/api/v1/deployments", {"model": "m", "selector": "all"}, 201)
    shown = registry.get(f"/api/v1/deployments/{old['id']}")

    assert (old["version"], new["version"]) == (1, 2)
    assert shown["devices"][0]["stage"] == "superseded"
    assert new["id"] in shown["devices"][0]["reason"]


def test_a_cancelled_deployment_has_no_devices(registry: Registry) -> None:
    registry.enrol("one")
    path = "/api/v1/deployments"
    path += "/" + registry.post(path, {"model": "m", "selector": "all"}, 201)["id"]
    registry.post(f"{path}/cancel")

    assert registry.get(path)["devices"] == []
    assert registry.get(path)["deployment"]["cancelled_at"] is not None


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": "absent"}, 404),
        ({"version": 9}, 404),
        ({"version": 0}, 422),
        ({"selector": ""}, 422),
        ({"selector": "site=="}, 422),
        ({"module": "Bad Name"}, 422),
        ({"capture": {"inputs": 1.5}}, 422),
        ({"capture": {"unknown": 1}}, 422),
        ({"soak_s": -1}, 422),
        ({"sources": ["no scheme"]}, 422),
        ({"sources": ["mqtt:a", "mqtt:a"]}, 422),
        ({"sources": ["mqtt:a"] * 33}, 422),
        ({"unknown": 1}, 422),
    ],
)
def test_a_deployment_that_asks_the_impossible_is_refused(
    registry: Registry, change: dict[str, Any], status: int
) -> None:
    answer = registry.http.post(
        "/api/v1/deployments", json={"model": "m", "selector": "all", **change}
    )

    assert answer.status_code == status
    assert registry.get("/api/v1/deployments")["items"] == []


def test_deployments_are_listed_newest_first_in_pages(registry: Registry) -> None:
    wish = {"model": "m", "selector": "all"}
    made = [registry.post("/api/v1/deployments", wish, 201)["id"] for _ in range(3)]
    first = registry.get("/api/v1/deployments?limit=2")
    rest = registry.get(f"/api/v1/deployments?limit=2&cursor={first['next']}")

    assert [each["id"] for each in first["items"] + rest["items"]] == made[::-1]


def test_devices_are_listed_by_selector_in_pages(registry: Registry) -> None:
    for device in ("a", "b", "c", "d"):
        registry.enrol(device, labels={"odd": "yes"} if device in "ac" else {})

    def ids(query: str) -> list[str]:
        return [each["id"] for each in registry.get(f"/api/v1/devices?{query}")["items"]]

    assert ids("") == ["a", "b", "c", "d"]
    assert ids("selector=odd") == ["a", "c"]
    assert ids("selector=odd&limit=1") == ["a"]
    assert ids("selector=odd&limit=1&cursor=a") == ["c"]
    assert ids("selector=device%20in%20(b,d)") == ["b", "d"]


@pytest.mark.parametrize(
    "labels", [{"all": "x"}, {"device": "x"}, {"": "x"}, {"a": "x" * 129}, {"a": "\n"}]
)
def test_labels_that_cannot_be_selected_are_refused(
    registry: Registry, labels: dict[str, str]
) -> None:
    registry.enrol("one")
    answer = registry.http.patch("/api/v1/devices/one/labels", json={"labels": labels})

    assert answer.status_code == 422
    assert registry.get("/api/v1/devices/one")["labels"] == {}


def test_statistics_are_per_version_over_all_devices(registry: Registry) -> None:
    registry.enrol("one")
    registry.enrol("two")
    add_records(registry, "one", 1, [float(number) for number in range(1, 101)])
    add_records(registry, "two", 1, [200.0])
    add_records(registry, "two", 2, [3.0])
    first, second = registry.get("/api/v1/telemetry/stats?model=m")["versions"]

    assert (first["version"], first["records"], first["devices"], first["errors"]) == (1, 101, 2, 2)
    assert (first["latency_p50_ms"], first["latency_p95_ms"]) == (51.0, 96.0)
    assert (first["first_at"], first["last_at"]) == (100.0, 199.0)
    assert (second["latency_p50_ms"], second["latency_p95_ms"]) == (3.0, 3.0)
    assert registry.get("/api/v1/telemetry/stats?model=absent")["versions"] == []


def test_records_are_read_on_from_a_cursor_or_from_the_end(registry: Registry) -> None:
    registry.enrol("one")
    add_records(registry, "one", 1, [1.0] * 5)
    path = "/api/v1/telemetry/records"
    first = registry.get(f"{path}?limit=3")
    rest = registry.get(f"{path}?limit=3&cursor={first['next']}")

    def places(page: Any) -> list[int]:
        return [each["outputs"]["label"][0] for each in page["items"]]

    assert places(first) + places(rest) == [0, 1, 2, 3, 4]
    assert rest["next"] is None
    assert places(registry.get(f"{path}?newest=true&limit=2")) == [3, 4]
    assert places(registry.get(f"{path}?since=103")) == [3, 4]
    assert places(registry.get(f"{path}?model=m&version=1&device=one")) == [0, 1, 2, 3, 4]
    assert places(registry.get(f"{path}?version=2")) == []


def test_the_same_batch_cannot_be_stored_twice(registry: Registry) -> None:
    registry.enrol("one")
    add_records(registry, "one", 1, [1.0])

    with pytest.raises(IntegrityError):
        add_records(registry, "one", 1, [1.0])
    assert len(registry.get("/api/v1/telemetry/records")["items"]) == 1
