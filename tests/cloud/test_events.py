import ast
import itertools
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlmodel import select

from cloud import tables
from cloud.api import streams
from cloud.client import Client
from cloud.registry import events
from cloud.registry.events import Filter
from cloud.shapes import Event
from runtime import tls
from runtime.messages import CommandResult
from tests.support import registries
from tests.support.brokers import csr, eventually
from tests.support.documents import ROOT
from tests.support.registries import Registry, Stores


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path / "data", stores=stores) as running:
        yield running


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Registry]:
    """A registry on SQLite, where the kind of store makes no difference."""
    with registries.running(tmp_path / "data", max_streams=2) as running:
        yield running


@pytest.fixture
def url(plain: Registry) -> Iterator[str]:
    with registries.listening(plain) as address:
        yield address
        plain.services.stopping.set()


@pytest.fixture
def client(plain: Registry, url: str) -> Iterator[Client]:
    with Client(url, plain.key, plain.services.authority.ca_pem) as made:
        yield made


def tell(registry: Registry, *subjects: str, kind: str = "test.told") -> None:
    with registry.services.transaction() as session:
        for subject in subjects:
            events.add(session, at=1.0, actor="test", kind=kind, subject=subject)


class Following:
    """Reads a stream in a thread of its own; its end is the end of all streams."""

    def __init__(self, registry: Registry, client: Client, after: int | None, **query: Any) -> None:
        self.got: list[Event] = []
        self._registry = registry
        self._stopping = threading.Event()
        self._stream = client.follow(after, stopping=self._stopping, **query)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading."""
        self._stopping.set()
        self._registry.services.stopping.set()
        self._thread.join()

    def _read(self) -> None:
        for event in self._stream:
            self.got.append(event)

    def until(self, count: int) -> list[str]:
        eventually(lambda: len(self.got) >= count, f"{count} events come")
        return [each.subject for each in self.got]


class Raw:
    """A reader that speaks HTTP by hand, and reads when it is told to."""

    def __init__(self, registry: Registry, url: str, *lines: str) -> None:
        place = urlsplit(url)
        context = tls.client_context(ca_pem=registry.services.authority.ca_pem)
        plain = socket.create_connection((place.hostname or "", place.port or 0), 20)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket: ssl.SSLSocket = context.wrap_socket(plain, server_hostname=place.hostname)
        asked = [
            "GET /api/v1/events?after=0 HTTP/1.1",
            "Host: registry",
            f"Authorization: Bearer {registry.key}",
            "Accept: text/event-stream",
            *lines,
        ]
        self.socket.sendall("\r\n".join([*asked, "", ""]).encode())

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.socket.close()

    def until(self, wanted: bytes) -> bytes:
        found = b""
        while wanted not in found:
            piece = self.socket.recv(65536)
            assert piece, found
            found += piece
        return found


def test_pages_hold_what_was_asked_for_in_order(registry: Registry) -> None:
    tell(registry, "a-1", "a-2", "b-1")
    tell(registry, "a-3", kind="other.told")

    def subjects(query: str) -> list[str]:
        return [each["subject"] for each in registry.get(f"/api/v1/events?{query}")["items"]]

    assert subjects("kind=test.told") == ["a-1", "a-2", "b-1"]
    assert subjects("kind=test.*&kind=other.told&subject_prefix=a-") == ["a-1", "a-2", "a-3"]
    assert subjects("kind=*&subject=a-2") == ["a-2"]
    assert subjects("kind=test.*&newest=true&limit=2") == ["a-2", "b-1"]
    assert subjects("subject_prefix=a%25") == []
    page = registry.get("/api/v1/events?kind=test.told&limit=2")
    assert subjects(f"kind=test.told&cursor={page['next']}") == ["b-1"]


def test_ids_rise_in_the_order_of_commits_whoever_writes(registry: Registry) -> None:
    """A reader that goes on by id, while many write, misses nothing: no id comes late."""
    writers, each = 4, 15
    seen: list[int] = []
    done = threading.Event()

    def write(number: int) -> None:
        for turn in range(each):
            with registry.services.transaction() as session:
                tell_one = f"{number}-{turn}"
                events.add(session, at=1.0, actor="test", kind="test.told", subject=tell_one)
                session.flush()
                events.add(session, at=1.0, actor="test", kind="test.told", subject=tell_one)

    def read() -> None:
        last = False
        while not last:
            last = done.is_set()  # one more look after the end
            with registry.services.reading() as session:
                rows = events.page(
                    session,
                    Filter(kinds=("test.told",)),
                    after=seen[-1] if seen else 0,
                    limit=1000,
                )
                seen.extend(row.id for row in rows if row.id is not None)

    reader = threading.Thread(target=read)
    reader.start()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    with registry.services.reading() as session:
        query = select(tables.Event.id).where(tables.Event.kind == "test.told")
        there = sorted(identity for identity in session.exec(query) if identity is not None)

    assert len(there) == writers * each * 2
    assert seen == there


@pytest.mark.parametrize("statement", ["UPDATE event SET actor = 'me'", "DELETE FROM event"])
def test_the_database_refuses_to_rewrite_history(registry: Registry, statement: str) -> None:
    tell(registry, "a")

    def rewrite() -> None:
        with registry.services.transaction() as session:
            session.connection().execute(text(statement))

    with pytest.raises(DatabaseError, match="append-only"):
        rewrite()


def test_a_follower_is_told_at_once_and_from_where_it_was(plain: Registry, client: Client) -> None:
    tell(plain, "before", "seen")
    newest = client.newest_events(1)[0].id
    with Following(plain, client, newest - 1, kind=["test.*"]) as reader:
        assert reader.until(1) == ["seen"]
        began = time.monotonic()
        tell(plain, "new")
        assert reader.until(2) == ["seen", "new"]
        took_s = time.monotonic() - began

    assert took_s < streams.SWEEP_S / 2


def test_a_follower_from_now_on_misses_nothing_that_happens_while_it_is_away(
    plain: Registry,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ca = plain.services.authority.ca_pem
    with Client(f"https://127.0.0.1:{port}", plain.key, ca) as client:
        with registries.listening(plain, port=port):
            last = client.newest_events(1)[0].id
            reader = Following(plain, client, None, kind=["test.*"])
            eventually(lambda: bool(reader.got) or tell(plain, "here") is not None, "it follows")
            plain.services.stopping.set()
        plain.services.stopping.clear()
        tell(plain, "away")
        with reader, registries.listening(plain, port=port):
            eventually(lambda: "away" in {each.subject for each in reader.got}, "it is told")
            tell(plain, "back")
            eventually(lambda: reader.got[-1].subject == "back", "it goes on")
            plain.services.stopping.set()
    ids = [each.id for each in reader.got]

    assert ids == list(
        range(ids[0], plain.get("/api/v1/events?newest=true")["items"][-1]["id"] + 1)
    )
    assert ids[0] > last


def test_the_stream_speaks_as_the_standard_says(plain: Registry, url: str) -> None:
    tell(plain, "one")
    newest = plain.get("/api/v1/events?newest=true&limit=1")["items"][0]["id"]
    with Raw(plain, url, f"Last-Event-ID: {newest - 1}") as reader:
        text_of_it = reader.until(b'"one"').decode()

    assert "content-type: text/event-stream" in text_of_it
    assert f"id: {newest - 1}\n\n" in text_of_it  # the place, before the first event
    assert f"id: {newest}\ndata: {{" in text_of_it


def test_silence_is_filled_with_comments(
    plain: Registry, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(streams, "SWEEP_S", 0.1)
    monkeypatch.setattr(streams, "LOOK_S", 0.05)
    with Raw(plain, url) as reader:
        assert reader.until(b": heartbeat\n\n")


def test_a_reader_that_takes_nothing_is_cut_off_and_holds_up_nobody(
    plain: Registry,
    url: str,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(streams, "SLOW_S", 0.5)
    caplog.set_level("INFO", "cloud.api.streams")
    with Raw(plain, url):
        with plain.services.transaction() as session:
            for number in range(200):
                events.add(
                    session,
                    at=1.0,
                    actor="test",
                    kind="test.told",
                    subject=str(number),
                    data={"bulk": "x" * 50_000},
                )
        newest = plain.get("/api/v1/events?newest=true&limit=1")["items"][0]["id"]
        with Following(plain, client, newest) as reader:
            tell(plain, "quick")
            assert reader.until(1) == ["quick"]
            eventually(lambda: "cut off" in caplog.text, "the slow one is cut off")
            tell(plain, "on")
            assert reader.until(2) == ["quick", "on"]


def test_no_more_readers_than_allowed_are_served(plain: Registry, url: str) -> None:
    with Raw(plain, url) as first, Raw(plain, url) as second:
        first.until(b"200 OK")
        second.until(b"200 OK")
        with Raw(plain, url) as third:
            refused = third.until(b"retryable")

    assert b"503" in refused
    assert b"retry-after" in refused.lower()


def test_a_reader_from_before_a_restore_is_told_and_goes_on(plain: Registry, url: str) -> None:
    with Raw(plain, url, "Last-Event-ID: 1000000") as reader:
        told = reader.until(b"event: reset").decode()
        tell(plain, "new")
        told += reader.until(b'"new"').decode()

    assert '"after": 1000000' in told


def test_shutting_down_ends_every_stream(plain: Registry, url: str) -> None:
    with Raw(plain, url) as reader:
        reader.until(b"200 OK")
        plain.services.stopping.set()
        rest = reader.until(b"0\r\n\r\n")

    assert rest.endswith(b"0\r\n\r\n")  # a whole answer, not a broken one


def test_an_id_that_is_none_is_refused(plain: Registry) -> None:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "yesterday"}

    assert plain.http.get("/api/v1/events", headers=headers).status_code == 422


KIND = re.compile(r"[a-z]+\.([a-z_]+ed|online|offline|ready|traffic|rolled_back)")
LISTED = re.compile(r"^\| `([a-z]+\.[a-z_]+)` \|", re.MULTILINE)


NO_KINDS = {"download.metered"}
"""Fields that read like one."""


def kinds_in_the_code() -> set[str]:
    """Every text of ours that reads like a kind: something that has happened to something."""
    texts = (
        node.value
        for path in (ROOT / "cloud").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {text for text in texts if KIND.fullmatch(text)} - NO_KINDS


def test_the_specification_lists_exactly_the_kinds_that_there_are() -> None:
    listed = LISTED.findall((ROOT / "docs" / "specs" / "events.md").read_text("utf-8"))

    assert sorted(listed) == sorted(kinds_in_the_code())


def changes(registry: Registry) -> Iterator[tuple[str, str, Any]]:
    """Every writing route, with something to write, in an order in which it works."""
    yield from changes_of_a_fleet(registry)
    yield from changes_of_the_rest(registry)


def changes_of_a_fleet(registry: Registry) -> Iterator[tuple[str, str, Any]]:
    registry.register("scale", b"one")
    yield "POST", "/api/v1/devices/tokens", {}
    wish = {"token": registry.token(), "csr": csr(registry.device_key), "device_id": "dev-a"}
    yield "POST", "/api/v1/enrol", wish
    yield "PATCH", "/api/v1/devices/dev-a/labels", {"labels": {"site": "lab"}}
    yield "POST", "/api/v1/deployments", {"model": "scale", "selector": "device=dev-a"}
    made = registry.get("/api/v1/deployments")["items"][0]["id"]
    yield "POST", f"/api/v1/deployments/{made}/retry", None
    yield "POST", f"/api/v1/deployments/{made}/cancel", None
    registry.register("other", b"one")
    registry.register("other", b"two")
    wish = {"model": "other", "version": 1, "selector": "device=dev-a"}
    yield "POST", "/api/v1/deployments", {**wish, "candidate": {"model": "other", "version": 2}}
    made = registry.get("/api/v1/deployments")["items"][0]["id"]
    yield "POST", f"/api/v1/deployments/{made}/promote", None
    yield "POST", f"/api/v1/deployments/{made}/cancel", None
    document = {"name": "d", "target": "all", "modules": {"m": {"model": "scale"}}}
    yield "POST", "/api/v1/rollouts", document
    rollout = registry.get("/api/v1/rollouts")["items"][0]["id"]
    yield "POST", f"/api/v1/rollouts/{rollout}/orders", {"order": "cancel"}
    yield "POST", "/api/v1/rollouts/rollback", {"to": rollout}
    rollout = registry.get("/api/v1/rollouts")["items"][0]["id"]
    yield "POST", f"/api/v1/rollouts/{rollout}/orders", {"order": "cancel"}
    yield "POST", "/api/v1/devices/dev-a/commands", {"kind": "logs"}
    yield "POST", "/api/v1/devices/dev-a/revoke", None


def changes_of_the_rest(registry: Registry) -> Iterator[tuple[str, str, Any]]:
    yield "POST", "/api/v1/keys", {"name": "ci", "role": "operator"}
    yield "POST", "/api/v1/keys/ci/revoke", None
    yield "POST", "/api/v1/webhooks", {"url": "https://127.0.0.2:9/", "kinds": []}
    hook = registry.get("/api/v1/webhooks")["items"][0]["id"]
    yield "PATCH", f"/api/v1/webhooks/{hook}", {"description": "new"}
    yield "POST", f"/api/v1/webhooks/{hook}/test", None
    yield "POST", f"/api/v1/webhooks/{hook}/replay", {}
    yield "DELETE", f"/api/v1/webhooks/{hook}", None
    login = {"registry": "images.example", "username": "carrier", "password": "open sesame"}
    yield "POST", "/api/v1/image-logins", login
    yield "DELETE", "/api/v1/image-logins/1", None
    service = {"name": "digits", "model": "scale", "target": {"kind": "docker"}}
    yield "POST", "/api/v1/services", service
    yield "PATCH", "/api/v1/services/digits", {"env": {"A": "1"}}
    yield "POST", "/api/v1/services/digits/traffic", {"weights": {"r1": 100}}
    yield "POST", "/api/v1/services/digits/promote", None
    yield "POST", "/api/v1/services/digits/rollback", {"to": "r2"}
    yield "POST", "/api/v1/services/digits/scale", {"scale": {"least": 2}}
    yield "POST", "/api/v1/services/digits/keys", {"name": "app"}
    yield "DELETE", "/api/v1/services/digits/keys/app", None
    yield "DELETE", "/api/v1/services/digits", None
    model = "/api/v1/models/scale"
    yield "PATCH", model, {"description": "new"}
    yield "PATCH", f"{model}/versions/1", {"description": "new"}
    yield "PUT", f"{model}/aliases/champion", {"version": 1}
    yield "DELETE", f"{model}/aliases/champion", None
    bundle = registry.get(f"{model}/versions/1")["bundle"]
    registry.register("scale", b"two")
    yield "POST", f"{model}/versions", {"bundle": bundle}
    yield "DELETE", f"{model}/versions/2", None
    yield "DELETE", model, None


ASKING = re.compile(r"/api/v1/(exports|rollouts/plan|services/[^/]+/(verify|export))$")
"""What is asked of a service, foretold, or written out, changes nothing."""
BYTES = re.compile(r"/api/v1/(blobs|uploads|gc)")
"""Bytes alone change nothing that anybody could see: registering them does. Collecting garbage
leaves an event if there was any: tests/cloud/test_collect.py."""


def test_every_writing_route_leaves_an_event(tmp_path: Path) -> None:
    with registries.running(tmp_path, webhook_networks="127.0.0.0/8") as registry:
        registry.answer_commands(CommandResult("c", ok=True, text="0 lines"))
        schema = registry.get("/api/v1/openapi.json")
        routes = {
            (method.upper(), re.compile(re.sub(r"\{[a-z0-9_]+\}", "[^/]+", path) + "$"))
            for path, methods in schema["paths"].items()
            for method in methods
            if method in {"post", "put", "patch", "delete"}
            and not (BYTES.match(path) or ASKING.match(path))
        }
        silent, wrong = [], []
        left = set(routes)
        for method, path, body in changes(registry):
            before = len(registry.get("/api/v1/events?newest=true&limit=200")["items"])
            answer = registry.http.request(method, path, json=body)
            after = len(registry.get("/api/v1/events?newest=true&limit=200")["items"])
            wrong += [(method, path, answer.text)] * (not answer.is_success)
            silent += [(method, path)] * (after == before)
            left -= {route for route in routes if route[0] == method and route[1].match(path)}

    assert wrong == []
    assert silent == []
    assert {(method, path.pattern) for method, path in left} == set()


def test_the_newest_events_and_all_after_one_can_be_read(plain: Registry, client: Client) -> None:
    tell(plain, *"abcde")
    newest = client.newest_events(3)
    rest = list(itertools.islice(client.events(after=newest[0].id), 5))

    assert [each.subject for each in newest] == ["c", "d", "e"]
    assert [each.subject for each in rest] == ["d", "e"]
    assert json.loads(newest[0].model_dump_json())["kind"] == "test.told"
