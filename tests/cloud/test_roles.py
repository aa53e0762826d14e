"""Who may do what with which key."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from cloud.registry import roles
from cloud.registry.roles import Role
from runtime import operations
from runtime.messages import CommandResult
from tests.support import registries
from tests.support.registries import Registry

ROLES = ("viewer", "operator", "admin")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registries.running(tmp_path_factory.mktemp("registry"), max_streams=0) as made:
        made.enrol("dev-a")
        yield made


@pytest.fixture(scope="module")
def keys(registry: Registry) -> dict[str, str]:
    """A key of each role."""
    made = {
        role: registry.post("/api/v1/keys", {"name": f"a-{role}", "role": role})["key"]
        for role in ROLES
    }
    assert all(key.startswith("phk_") for key in made.values())
    return made


def ask(client: TestClient, key: str, method: str, path: str, body: Any = None) -> Any:
    return client.request(method, path, json=body, headers={"Authorization": f"Bearer {key}"})


def every_route(registry: Registry) -> list[tuple[str, str]]:
    paths = registry.get("/api/v1/openapi.json")["paths"]
    return [
        (method.upper(), re.sub(r"\{[a-z0-9_]+\}", "x", path))
        for path, methods in paths.items()
        if path.startswith("/api/v1/") and path not in {"/api/v1/ca", "/api/v1/enrol"}
        for method in methods
    ]


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_every_route_refuses_whoever_has_a_lesser_role(
    registry: Registry, keys: dict[str, str], role: str
) -> None:
    """A route that nobody thought of is an operator's, if it changes anything."""
    wrong = []
    for method, path in every_route(registry):
        allowed = Role(role).covers(roles.for_request(method, path))
        answer = ask(registry.bare, keys[role], method, path)
        refused = answer.status_code == 403
        if refused == allowed:
            wrong.append((method, path, answer.status_code))

    assert wrong == []


def test_a_viewer_changes_nothing_and_is_told_who_may(
    registry: Registry, keys: dict[str, str]
) -> None:
    answer = ask(registry.bare, keys["viewer"], "POST", "/api/v1/devices/tokens", {})

    assert answer.status_code == 403
    assert answer.json()["needed"] == "operator"
    assert "a-viewer is a key for viewers, and this is for operators" in answer.json()["detail"]
    assert ask(registry.bare, keys["viewer"], "GET", "/api/v1/devices").status_code == 200
    assert ask(registry.bare, keys["operator"], "POST", "/api/v1/devices/tokens", {}).is_success


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/keys"),
        ("POST", "/api/v1/keys"),
        ("POST", "/api/v1/keys/x/revoke"),
        ("GET", "/api/v1/webhooks"),
        ("POST", "/api/v1/webhooks"),
        ("GET", "/api/v1/image-logins"),
        ("DELETE", "/api/v1/image-logins/1"),
        ("POST", "/api/v1/devices/x/revoke"),
        ("POST", "/api/v1/gc"),
    ],
)
def test_what_is_an_admins_is_written_down(method: str, path: str) -> None:
    assert roles.for_request(method, path) is Role.ADMIN


def test_no_path_is_taken_for_another_by_how_it_begins() -> None:
    assert roles.for_request("POST", "/api/v1/models/keys") is Role.OPERATOR
    assert roles.for_request("GET", "/api/v1/services/x/keys") is Role.VIEWER
    assert roles.for_request("PATCH", "/api/v1/devices/revoke/labels") is Role.OPERATOR


COMMANDS = [
    ("logs", "", {}, "operator"),
    ("infer", "digits", {}, "operator"),
    ("check", "digits", {}, "operator"),
    ("restart", "digits", {}, "operator"),
    ("restart", "", {}, "admin"),
    ("support", "", {}, "admin"),
    ("exec", "", {"name": "uptime"}, "admin"),
    ("update", "", {"version": "1.2"}, "admin"),
]


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: f"{case[0]} {case[1]}")
def test_each_remote_operation_needs_its_role(
    registry: Registry, keys: dict[str, str], case: tuple[str, str, dict[str, str], str]
) -> None:
    kind, module, options, needed = case
    registry.answer_commands(CommandResult("c", ok=True))
    body = {"kind": kind, "module": module, "options": options}
    path = "/api/v1/devices/dev-a/commands"
    found = {role: ask(registry.bare, keys[role], "POST", path, body).status_code for role in ROLES}

    assert found == {
        role: 200 if ROLES.index(role) >= ROLES.index(needed) else 403 for role in ROLES
    }


def test_every_kind_of_command_has_a_role() -> None:
    assert set(roles.OPERATIONS) == {"check", *operations.TAKES}


def test_a_key_that_is_revoked_works_no_more_and_its_name_stays_taken(registry: Registry) -> None:
    wish = {"name": "leaver", "role": "operator"}
    key = registry.post("/api/v1/keys", wish)["key"]
    assert ask(registry.bare, key, "GET", "/api/v1/devices").status_code == 200

    first = registry.post("/api/v1/keys/leaver/revoke")
    again = registry.post("/api/v1/keys/leaver/revoke")

    assert first == again
    assert ask(registry.bare, key, "GET", "/api/v1/devices").status_code == 401
    assert registry.http.post("/api/v1/keys", json=wish).status_code == 409
    kinds = [
        (each["kind"], each["data"])
        for each in registry.get("/api/v1/events?subject=leaver")["items"]
    ]
    assert kinds == [("key.created", {"role": "operator"}), ("key.revoked", {})]


def test_the_last_admin_cannot_shut_everybody_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    with registries.running(tmp_path_factory.mktemp("alone")) as registry:
        refused = registry.http.post("/api/v1/keys/admin/revoke")
        registry.post("/api/v1/keys", {"name": "second", "role": "admin"})
        accepted = registry.http.post("/api/v1/keys/admin/revoke")

    assert (refused.status_code, accepted.status_code) == (409, 200)
    assert "last admin" in refused.json()["detail"]


@pytest.mark.parametrize("name", ["", "A B", "x" * 64, "../x"])
def test_a_name_that_is_none_is_refused(registry: Registry, name: str) -> None:
    answer = registry.http.post("/api/v1/keys", json={"name": name, "role": "viewer"})

    assert answer.status_code == 422


def test_keys_are_listed_without_what_makes_them(registry: Registry, keys: dict[str, str]) -> None:
    listed = registry.get("/api/v1/keys?limit=200")["items"]

    assert {(each["name"], each["role"]) for each in listed} >= {
        ("admin", "admin"),
        *((f"a-{role}", role) for role in ROLES),
    }
    assert not any(key in str(listed) for key in keys.values())
