from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import registries
from tests.support.registries import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path) as running:
        running.register("scale", b"one")
        running.enrol("dev-a")
        yield running


DEVICE, MODEL = "/api/v1/devices/dev-a", "/api/v1/models/scale"
CHANGES: dict[str, tuple[str, str, str, Any]] = {
    "labels of a device": (DEVICE, "PATCH", f"{DEVICE}/labels", {"labels": {"site": "lab"}}),
    "a device's rights": (DEVICE, "POST", f"{DEVICE}/revoke", None),
    "a model": (MODEL, "PATCH", MODEL, {"description": "new"}),
    "a version": (
        f"{MODEL}/versions/1",
        "PATCH",
        f"{MODEL}/versions/1",
        {"description": "new"},
    ),
}
"""What is read, and how it is changed."""


@pytest.mark.parametrize("what", CHANGES)
def test_nobody_overwrites_what_somebody_else_changed_meanwhile(
    registry: Registry, what: str
) -> None:
    read, method, path, body = CHANGES[what]
    seen = registry.http.get(read).headers["etag"]
    mine = registry.http.request(method, path, json=body, headers={"If-Match": seen})
    theirs = registry.http.request(method, path, json=body, headers={"If-Match": seen})
    anyway = registry.http.request(method, path, json=body, headers={"If-Match": "*"})
    anew = registry.http.get(read).headers["etag"]
    informed = registry.http.request(method, path, json=body, headers={"If-Match": anew})

    assert [each.status_code for each in (mine, theirs, anyway, informed)] == [200, 412, 200, 200]
    assert theirs.json()["type"].endswith(":precondition")
    assert theirs.headers["content-type"] == "application/problem+json"


def test_a_deployment_that_was_retried_is_not_cancelled_unseen(registry: Registry) -> None:
    made = registry.post("/api/v1/deployments", {"model": "scale", "selector": "device=dev-a"})
    path = f"/api/v1/deployments/{made['id']}"
    seen = registry.http.get(path).headers["etag"]
    registry.post(f"{path}/retry", None)
    late = registry.http.post(f"{path}/cancel", headers={"If-Match": seen})

    assert late.status_code == 412
    assert registry.get(path)["deployment"]["cancelled_at"] is None


@pytest.mark.parametrize("path", [DEVICE, MODEL, f"{MODEL}/versions/1"])
def test_what_the_client_has_is_not_sent_again(registry: Registry, path: str) -> None:
    etag = registry.http.get(path).headers["etag"]
    again = registry.http.get(path, headers={"If-None-Match": f'"other", W/{etag}'})
    other = registry.http.get(path, headers={"If-None-Match": '"other"'})

    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert other.status_code == 200


def test_what_a_device_reports_changes_the_answer_and_not_the_revision(registry: Registry) -> None:
    """So a page that polls sees it, and an operator who changes labels is not refused for it."""
    seen = registry.http.get(DEVICE).headers["etag"]
    with registry.services.transaction() as session:
        from cloud import tables  # noqa: PLC0415 - beside its use

        row = session.get(tables.Device, "dev-a")
        assert row is not None
        row.last_seen = 1.0
    fresh = registry.http.get(DEVICE, headers={"If-None-Match": seen})
    change = registry.http.patch(
        f"{DEVICE}/labels", json={"labels": {"a": "b"}}, headers={"If-Match": seen}
    )

    assert fresh.status_code == 200
    assert change.status_code == 200


def test_a_change_gives_the_etag_of_what_is_there_now(registry: Registry) -> None:
    changed = registry.http.patch(f"{DEVICE}/labels", json={"labels": {"site": "lab"}})

    assert registry.http.get(DEVICE).headers["etag"] == changed.headers["etag"]


def test_a_condition_that_is_none_is_refused(registry: Registry) -> None:
    answer = registry.http.patch(f"{DEVICE}/labels", json={"labels": {}}, headers={"If-Match": "3"})

    assert answer.status_code == 422
