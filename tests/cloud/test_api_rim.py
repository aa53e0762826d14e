import http
import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

import cloud.registry.enrolment  # noqa: F401 - all error classes are loaded
from cloud.api import errors, limits
from cloud.app import create_app
from runtime import tls
from runtime.errors import PackhorseError
from tests.support import registries
from tests.support.registries import Registry, Stores

OPEN = {"/api/v1/ca", "/api/v1/enrol", "/healthz", "/dl/{encoding}/{digest}"} | {
    "/dl/{encoding}/{digest}/parts"
}


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores, max_blob_bytes=5000) as running:
        yield running


def descendants(kind: type[PackhorseError]) -> Iterator[type[PackhorseError]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def ours() -> list[type[PackhorseError]]:
    return [
        kind
        for kind in descendants(PackhorseError)
        if kind.__module__ in {"runtime.errors", "cloud.errors", "cloud.hosting.errors"}
    ]


@pytest.mark.parametrize("kind", ours())
def test_every_error_has_a_status_and_a_name_of_its_own(kind: type[PackhorseError]) -> None:
    status = http.HTTPStatus(errors.status_of(kind))

    assert 400 <= status < 600
    assert errors.slug(kind)


def test_no_two_errors_share_a_problem_type() -> None:
    slugs = [errors.slug(kind) for kind in ours()]

    assert len(slugs) == len(set(slugs))


def test_every_route_but_the_open_ones_refuses_a_request_without_a_key(
    registry: Registry,
) -> None:
    schema = registry.get("/api/v1/openapi.json")
    guarded = [
        (method, path)
        for path, methods in schema["paths"].items()
        for method in methods
        if path not in OPEN
    ]
    answers = {
        (method, path): registry.bare.request(method, path.replace("{", "").replace("}", ""))
        for method, path in guarded
    }

    assert len(guarded) > 15
    assert {answer.status_code for answer in answers.values()} == {401}
    assert {answer.headers["content-type"] for answer in answers.values() if answer.content} == {
        "application/problem+json"
    }


def test_the_schema_itself_wants_a_key(registry: Registry) -> None:
    assert registry.bare.get("/api/v1/openapi.json").status_code == 401
    assert registry.bare.get("/docs").status_code == 404


@pytest.mark.parametrize("header", ["Bearer phk_wrong", "Bearer ", "Basic phk_wrong", "phk_wrong"])
def test_a_wrong_key_is_a_problem_that_challenges(registry: Registry, header: str) -> None:
    answer = registry.bare.get("/api/v1/models", headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"] == "urn:packhorse:problem:key-refused"


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("DELETE", "/healthz", 405, "method-not-allowed"),
        ("GET", "/api/v1/models/absent", 404, "not-found"),
        ("GET", "/api/v1/models?limit=0", 422, "invalid"),
        ("GET", "/api/v1/models?limit=201", 422, "invalid"),
        ("GET", "/api/v1/blobs/abc", 422, "invalid"),
        ("GET", "/api/v1/deployments/dep-absent", 404, "not-found"),
        ("GET", "/api/v1/deployments?cursor=x", 422, "invalid"),
        ("GET", "/api/v1/devices/absent", 404, "not-found"),
        ("GET", "/api/v1/devices?selector=a%3D", 422, "invalid"),
    ],
)
def test_what_goes_wrong_is_a_problem(
    registry: Registry, method: str, path: str, status: int, kind: str
) -> None:
    answer = registry.http.request(method, path)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:packhorse:problem:{kind}"
    assert problem["status"] == status
    assert problem["detail"]


def test_an_unknown_field_is_named_and_its_value_is_not_shown(registry: Registry) -> None:
    body = {"token": "pht_secret", "csr": "x", "secretive": "hidden"}
    answer = registry.bare.post("/api/v1/enrol", json=body)

    assert answer.status_code == 422
    assert "body.secretive" in answer.json()["detail"]
    assert "hidden" not in answer.text
    assert "pht_secret" not in answer.text


def test_json_that_is_none_is_a_problem(registry: Registry) -> None:
    answer = registry.http.post(
        "/api/v1/deployments", content=b"{", headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/api/v1/deployments", (1 << 20) + 1, 413),
        ("/api/v1/models/x/versions", (4 << 20) + 1, 413),
        ("/api/v1/models/x/versions", 1 << 20, 422),
    ],
)
def test_a_body_above_its_limit_is_refused(
    registry: Registry, path: str, size: int, status: int
) -> None:
    headers = {"Content-Type": "application/json"}
    announced = registry.http.post(path, content=b" " * size, headers=headers)
    chunked = registry.http.post(path, content=iter([b" " * size]), headers=headers)

    assert (announced.status_code, chunked.status_code) == (status, status)
    assert chunked.headers["content-type"] == "application/problem+json"


def test_a_bug_is_answered_without_its_text(registry: Registry) -> None:
    app = create_app(registry.services)

    @app.get("/bug")
    def bug() -> None:
        raise ZeroDivisionError("inner secret")

    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/bug")

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


def test_health_tells_whether_every_thread_does_its_duty(registry: Registry) -> None:
    assert registry.bare.get("/healthz").json() == {"status": "ok", "duties": {}}


def test_the_ca_is_there_for_everyone(registry: Registry) -> None:
    answer = registry.bare.get("/api/v1/ca")

    assert answer.text == registry.services.authority.ca_pem


def test_what_could_not_be_committed_is_never_answered_as_done(registry: Registry) -> None:
    with registry.services.transaction() as session:
        session.connection().exec_driver_sql(
            "CREATE UNIQUE INDEX no_room ON enrolment_token (created_by)"
        )
    registry.token()
    answer = registry.http.post("/api/v1/devices/tokens", json={})

    assert answer.status_code == 500
    assert "pht_" not in answer.text


def test_a_body_that_does_not_come_is_not_waited_for(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_IDLE_S", 0.2)
    with registries.listening(registry) as url:
        place = urlsplit(url)
        context = tls.client_context(ca_pem=registry.services.authority.ca_pem)
        connection = http.client.HTTPSConnection(
            place.hostname or "", place.port, timeout=20, context=context
        )
        connection.putrequest("POST", "/api/v1/devices/tokens")
        connection.putheader("Authorization", f"Bearer {registry.key}")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        connection.send(b"{")
        answer = connection.getresponse()
        kind, status = answer.headers["content-type"], answer.status
        connection.close()

    assert (status, kind) == (408, "application/problem+json")


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Accept": "text/html"}, 406),
        ("GET", {"Accept": "application/json;q=0"}, 406),
        ("GET", {"Accept": "text/html, application/*;q=0.5"}, 200),
        ("GET", {"Accept": "*/*"}, 200),
        ("POST", {"Content-Type": "text/plain"}, 415),
        ("POST", {"Content-Type": "application/json; charset=utf-8"}, 201),
    ],
)
def test_kinds_of_bodies_and_answers_are_agreed_on(
    registry: Registry, method: str, headers: dict[str, str], status: int
) -> None:
    path = "/api/v1/devices" if method == "GET" else "/api/v1/devices/tokens"
    content = None if method == "GET" else b"{}"
    answer = registry.http.request(method, path, content=content, headers=headers)

    assert answer.status_code == status


def test_a_name_in_a_path_has_a_length(registry: Registry) -> None:
    assert registry.http.get(f"/api/v1/devices/{'x' * 257}").status_code == 422
