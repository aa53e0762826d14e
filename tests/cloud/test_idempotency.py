import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from sqlmodel import func, select
from starlette.testclient import TestClient

from cloud import tables
from cloud.api import idempotency
from cloud.api.routes import Route
from cloud.app import create_app
from cloud.client import Client
from cloud.shapes import NewToken
from cloud.trust import keys
from tests.support import registries
from tests.support.registries import URL, Registry, Stores

TOKENS = "/api/v1/devices/tokens"
DAY_S = 86400.0


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path / "data", stores=stores) as running:
        yield running


def ask(registry: Registry, key: str, path: str = TOKENS, **body: Any) -> Any:
    return registry.http.post(path, json=body, headers={"Idempotency-Key": key})


def count(registry: Registry, table: type[Any]) -> int:
    with registry.services.reading() as session:
        return session.exec(select(func.count()).select_from(table)).one()


def test_the_same_request_is_done_once_and_answered_the_same(registry: Registry) -> None:
    first = ask(registry, "one", ttl_s=60)
    again = ask(registry, "one", ttl_s=60)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert count(registry, tables.EnrolmentToken) == 1


def test_another_key_is_another_request(registry: Registry) -> None:
    assert ask(registry, "one").json()["token"] != ask(registry, "two").json()["token"]


def test_a_key_that_came_with_another_request_is_refused(registry: Registry) -> None:
    ask(registry, "one", ttl_s=60)
    other_body = ask(registry, "one", ttl_s=61)
    other_path = ask(registry, "one", "/api/v1/webhooks", url="https://hooks.example/")

    assert (other_body.status_code, other_path.status_code) == (422, 422)
    assert other_body.json()["type"].endswith(":key-reused")


def test_what_was_refused_is_tried_anew(registry: Registry) -> None:
    wish = {"model": "scale", "selector": "device=dev-a"}
    refused = ask(registry, "one", "/api/v1/deployments", **wish)
    registry.register("scale", b"bytes")
    done = ask(registry, "one", "/api/v1/deployments", **wish)

    assert (refused.status_code, done.status_code) == (404, 201)


def test_after_a_day_a_key_is_forgotten(registry: Registry) -> None:
    ask(registry, "one")
    registry.clock.at += DAY_S + 1
    ask(registry, "one")

    assert count(registry, tables.EnrolmentToken) == 2
    assert count(registry, tables.IdempotencyKey) == 1


def test_an_answer_is_nobody_elses(registry: Registry) -> None:
    secret = keys.make_secret(keys.PREFIX)
    with registry.services.transaction() as session:
        row = tables.ApiKey(name="other", sha256=keys.hashed(secret), created_at=1.0)
        row.role = "operator"
        session.add(row)
    mine = ask(registry, "one").json()["token"]
    headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": "one"}
    theirs = registry.bare.post(TOKENS, json={}, headers=headers).json()["token"]
    stranger = registry.bare.post(TOKENS, json={}, headers={"Idempotency-Key": "one"})

    assert mine != theirs
    assert stranger.status_code == 401


def test_a_key_that_was_revoked_gets_no_answer_of_the_past(registry: Registry) -> None:
    ask(registry, "one")
    with registry.services.transaction() as session:
        row = session.exec(select(tables.ApiKey)).one()
        row.revoked_at = 1.0

    assert ask(registry, "one").status_code == 401


def test_no_secret_lies_in_the_database(registry: Registry) -> None:
    """Neither does the client's key, without which nobody can open what is sealed with it."""
    token = ask(registry, "a-key-of-mine").json()["token"].partition(".")[0]
    with registry.services.reading() as session:
        row = session.exec(select(tables.IdempotencyKey)).one()

    assert token.encode() not in (row.body or b"")
    assert "a-key-of-mine" not in str(row.model_dump())


def test_effect_and_answer_are_one_transaction(registry: Registry) -> None:
    """What cannot be written down is not done: else it would be done twice."""
    with registry.services.transaction() as session:
        session.connection().exec_driver_sql("DROP TABLE idempotency_key")
    answer = ask(registry, "one")

    assert answer.status_code >= 500
    assert count(registry, tables.EnrolmentToken) == 0


def test_while_one_is_under_way_the_other_is_told_to_wait(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on = threading.Event(), threading.Event()
    hashed = keys.hashed

    def slow(secret: str) -> str:
        if secret.startswith("pht_"):
            inside.set()
            go_on.wait(20)
        return hashed(secret)

    monkeypatch.setattr(keys, "hashed", slow)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(ask(registry, "one")))
    thread.start()
    assert inside.wait(20)
    other = ask(registry, "one")
    go_on.set()
    thread.join()

    assert other.status_code == 409
    assert other.json()["retryable"] is True
    assert other.headers["retry-after"] == "1"
    assert ask(registry, "one").content == answers[0].content


def test_two_processes_do_it_once(registry: Registry) -> None:
    """They share the database alone: each has its own list of what is under way."""
    headers = {"Authorization": f"Bearer {registry.key}", "Idempotency-Key": "one"}
    start = threading.Barrier(2)
    statuses: list[int] = []

    def post(client: TestClient) -> None:
        start.wait()
        statuses.append(client.post(TOKENS, json={}, headers=headers).status_code)

    with TestClient(create_app(registry.services), URL) as other:
        clients = (registry.http, other)
        for client in clients:  # FastAPI builds its routes at the first request, not thread-safely
            client.get("/api/v1/openapi.json", headers=headers)
        threads = [threading.Thread(target=post, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert count(registry, tables.EnrolmentToken) == 1
    assert set(statuses) <= {201, 409}
    assert 201 in statuses


def test_an_answer_too_large_to_keep_is_not_given_twice(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "KEPT_BODY_BYTES", 10)
    ask(registry, "one")
    again = ask(registry, "one")

    assert again.status_code == 409
    assert again.json()["type"].endswith(":answer-lost")
    assert again.json()["retryable"] is False


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_that_is_none_is_refused(registry: Registry, key: str) -> None:
    assert ask(registry, key).status_code == 422


def test_an_answer_without_a_body_is_kept_too(registry: Registry) -> None:
    body = {"url": "https://hooks.example/"}
    first = ask(registry, "one", "/api/v1/webhooks", **body)
    again = ask(registry, "one", "/api/v1/webhooks", **body)

    assert first.headers["etag"] == again.headers["etag"]
    assert first.json()["secret"] == again.json()["secret"]


def test_every_post_that_wants_a_key_takes_part(registry: Registry) -> None:
    app: Any = registry.http.app
    posts = {
        each.path: each.original_route
        for each in iter_route_contexts(app.routes)
        if "POST" in (each.methods or ()) and each.path.startswith("/api/v1/")
    }
    posts.pop("/api/v1/enrol")  # has its own: the token

    assert len(posts) > 10
    assert {path for path, route in posts.items() if not isinstance(route, Route)} == set()
    assert issubclass(Route, APIRoute)


def test_the_client_sends_a_key_so_that_a_lost_answer_does_no_harm(registry: Registry) -> None:
    lost = 2
    with (
        registries.listening(registry) as url,
        Client(url, registry.key, registry.services.authority.ca_pem) as client,
    ):
        sent = client._transport.http.request

        def forgetful(*arguments: Any, **request: Any) -> Any:
            nonlocal lost
            answer = sent(*arguments, **request)
            if lost:
                lost -= 1
                raise httpx2.ReadError("cut")
            return answer

        client._transport.http.request = forgetful  # type: ignore[method-assign]
        client.make_token(NewToken())

    assert lost == 0
    assert count(registry, tables.EnrolmentToken) == 1
