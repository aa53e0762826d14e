import asyncio
import contextlib
import http.client
import socket
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.serving.wire import answers
from runtime.serving.wire.answers import Answer
from runtime.serving.wire.bodies import Body, HeapBody
from runtime.serving.wire.head import Head
from runtime.serving.wire.limits import Limits
from tests.support import serving
from tests.support.serving import RunningServer, UnixConnection


class Named:
    """An app that answers with its name: at once, or after being let go."""

    def __init__(self, name: str) -> None:
        self._answer = answers.json(b'"%s"' % name.encode())
        self.began, self.go = threading.Event(), threading.Event()
        self.go.set()

    def admit(self, _head: Head) -> None:
        """Refuse nothing."""

    def place(self, head: Head) -> HeapBody:
        """Put bodies into memory."""
        return HeapBody(head.length)

    def answer(self, _head: Head, _body: bytes | Body) -> Answer | Coroutine[Any, Any, Answer]:
        """Give the name."""
        return self._answer if self.go.is_set() else self._later()

    async def _later(self) -> Answer:
        self.began.set()
        await asyncio.to_thread(self.go.wait)
        return self._answer


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        listener = serving.listen(Path(name) / "s")
        yield listener
        assert Path(listener.getsockname()).exists()
        listener.close()


class Client(threading.Thread):
    """Asks without a pause, on a connection kept as long as the server allows or on new ones."""

    def __init__(self, path: str, *, keep: bool) -> None:
        super().__init__(daemon=True)
        self._path, self._keep = path, keep
        self._ended = threading.Event()
        self.failures: list[BaseException] = []
        self.answers: dict[str, int] = {}

    def run(self) -> None:
        """Ask until stopped; a connection that the server announced to close is not used again."""
        client = UnixConnection(self._path)
        while not self._ended.is_set():
            try:
                _, name = client.ask("GET", "/")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(error)
                client.close()
                continue
            self.answers[name] = self.answers.get(name, 0) + 1
            if not self._keep:
                client.close()
        client.close()

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self.join()


def test_fifty_swaps_under_fire_fail_no_request(listener: socket.socket) -> None:
    """Both servers share one listener; clients keep connections, or make new ones."""
    servers = [RunningServer(Named(name), listener) for name in ("a", "b")]
    servers[0].accept()
    clients = [Client(listener.getsockname(), keep=keep) for keep in (True, True, False)]
    for client in clients:
        client.start()

    for swap in range(50):
        new, old = servers[(swap + 1) % 2], servers[swap % 2]
        new.accept()
        old.hold()
        before = [sum(client.answers.values()) for client in clients]
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and any(
            sum(client.answers.values()) < seen + 3
            for client, seen in zip(clients, before, strict=True)
        ):
            threading.Event().wait(0.002)

    for client in clients:
        client.stop()
    for server in servers:
        server.stop()
    assert [client.failures for client in clients] == [[], [], []]
    assert all(min(client.answers.values()) >= 50 for client in clients)
    assert all(set(client.answers) == {"a", "b"} for client in clients)


def test_servers_that_are_replaced_for_good_fail_no_request(listener: socket.socket) -> None:
    """As a worker process is: hold, stop at once, and another server in its place."""
    current = RunningServer(Named("0"), listener)
    current.accept()
    clients = [Client(listener.getsockname(), keep=keep) for keep in (True, False)]
    for client in clients:
        client.start()

    for swap in range(10):
        new = RunningServer(Named(str(swap + 1)), listener)
        new.accept()
        current.hold()
        current.stop()
        current = new

    for client in clients:
        client.stop()
    current.stop()
    assert [client.failures for client in clients] == [[], []]


def test_a_held_server_answers_an_idle_connection_once_more_and_says_goodbye(
    listener: socket.socket,
) -> None:
    server = RunningServer(Named("a"), listener)
    server.accept()
    client = UnixConnection(listener.getsockname())
    client.ask("GET", "/")
    server.hold()

    client.request("GET", "/")
    answer = client.getresponse()

    assert (answer.read(), answer.getheader("Connection")) == (b'"a"', "close")
    client.close()
    server.stop()


def test_a_held_server_takes_no_connection_until_it_accepts_again(
    listener: socket.socket,
) -> None:
    server = RunningServer(Named("a"), listener)
    server.accept()
    server.hold()
    client = UnixConnection(listener.getsockname(), timeout=0.2)

    with pytest.raises(TimeoutError):
        client.ask("GET", "/")
    server.accept()
    again = UnixConnection(listener.getsockname())
    again.request("GET", "/")
    answer = again.getresponse()

    assert answer.status == 200
    assert answer.getheader("Connection") is None
    client.close()
    again.close()
    server.stop()


def test_an_idle_connection_is_closed_after_it_lingered(listener: socket.socket) -> None:
    server = RunningServer(Named("a"), listener, limits=Limits(linger_s=0.05))
    server.accept()
    client = UnixConnection(listener.getsockname())
    client.ask("GET", "/")

    server.hold()

    assert client.sock.recv(1) == b""
    client.close()
    server.stop()


def test_a_server_that_stops_with_nobody_to_follow_closes_idle_connections_at_once(
    listener: socket.socket,
) -> None:
    server = RunningServer(Named("a"), listener, limits=Limits(linger_s=60))
    server.accept()
    client = UnixConnection(listener.getsockname())
    client.ask("GET", "/")

    server.stop(grace_s=60)

    assert client.sock.recv(1) == b""
    client.close()


def test_a_request_in_hand_is_answered_when_the_server_stops(listener: socket.socket) -> None:
    app = Named("a")
    app.go.clear()
    server = RunningServer(app, listener)
    server.accept()
    client = UnixConnection(listener.getsockname())
    client.request("GET", "/")
    assert app.began.wait(10)
    threading.Timer(0.1, app.go.set).start()

    server.stop(grace_s=10)
    answer = client.getresponse()

    assert (answer.read(), answer.getheader("Connection")) == (b'"a"', "close")
    client.close()


def test_a_request_that_is_only_half_here_is_still_taken(listener: socket.socket) -> None:
    server = RunningServer(Named("a"), listener)
    server.accept()
    client = UnixConnection(listener.getsockname())
    client.ask("GET", "/")
    client.sock.sendall(b"GET / HTT")
    time.sleep(0.05)  # nothing tells when the bytes were read: either order must work
    server.hold()
    stopping = threading.Thread(target=server.stop)
    stopping.start()

    client.sock.sendall(b"P/1.1\r\nHost: x\r\n\r\n")

    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.sock.recv(1000):
            answer += chunk
    stopping.join()
    assert answer.startswith(b"HTTP/1.1 200")
    client.close()


def test_headers_without_an_end_are_refused(listener: socket.socket) -> None:
    server = RunningServer(Named("a"), listener)
    server.accept()
    client = UnixConnection(listener.getsockname())
    client.connect()

    with contextlib.suppress(OSError):
        client.sock.sendall(b"GET / HTTP/1.1\r\n")
        for n in range(10_000):
            client.sock.sendall(b"X-%d: %s\r\n" % (n, b"v" * 1000))

    with contextlib.suppress(ConnectionResetError):
        assert client.sock.recv(100).startswith(b"HTTP/1.1 431")
    assert server.server.connections == 0
    client.close()
    server.stop()


def test_a_stop_does_not_wait_longer_than_its_grace(listener: socket.socket) -> None:
    app = Named("a")
    app.go.clear()
    server = RunningServer(app, listener)
    server.accept()
    client = UnixConnection(listener.getsockname())
    client.request("GET", "/")
    assert app.began.wait(10)
    started = time.monotonic()

    server.stop(grace_s=0.1)

    assert time.monotonic() - started < 5
    with pytest.raises((http.client.HTTPException, OSError)):
        client.getresponse()
    app.go.set()
    client.close()


def test_a_listener_on_localhost_is_served_too() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = RunningServer(Named("a"), listener)
        server.accept()
        client = http.client.HTTPConnection(*listener.getsockname())
        client.request("GET", "/")

        answer = client.getresponse()

        assert answer.read() == b'"a"'
        assert answer.getheader("Date") is None
        client.close()
        server.stop()
