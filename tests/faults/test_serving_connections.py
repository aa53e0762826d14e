"""Clients that are slow, large, rude or gone, on real sockets."""

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.serving.wire.limits import Limits
from tests.support import serving
from tests.support.apps import Echo
from tests.support.brokers import eventually
from tests.support.serving import RunningServer

GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"
QUICK = Limits(
    connections=20,
    head_bytes=4096,
    body_bytes=1_000_000,
    held_bytes=1_500_000,
    head_s=0.2,
    stall_s=0.3,
    body_bytes_per_s=1_000_000,
    idle_s=0.4,
    farewell_s=0.3,
)


class Rig:
    """A server with short patience, and raw clients."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.app, self.path = Echo(), path
        self.listener = serving.listen(path)
        self.running = RunningServer(self.app, self.listener, limits=limits)
        self.running.accept()
        self._clients: list[socket.socket] = []

    def client(self, data: bytes = b"", *, buffer_bytes: int | None = None) -> socket.socket:
        """Connect and send."""
        client = socket.socket(socket.AF_UNIX)
        if buffer_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        client.settimeout(20)
        client.connect(str(self.path))
        client.sendall(data)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """End everything."""
        self.app.go.set()
        for client in self._clients:
            client.close()
        self.running.stop()
        self.listener.close()

    @property
    def connections(self) -> int:
        """How many clients the server has."""
        return self.running.server.connections

    @property
    def held_bytes(self) -> int:
        """How much of bodies the server holds."""
        return self.running.server._shared.held.total


@pytest.fixture
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        made = Rig(Path(name) / "s", QUICK)
        yield made
        made.close()


@pytest.fixture
def patient() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        made = Rig(Path(name) / "s", Limits())
        yield made
        made.close()


def everything(client: socket.socket) -> bytes:
    """Return all that comes until the server closes."""
    got = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 20):
            got += piece
    return bytes(got)


def one(client: socket.socket) -> bytes:
    """Return one short answer."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = client.recv(65536)
        assert piece, got
        got += piece
    return got


@pytest.mark.parametrize(
    "data",
    [
        b"GET /echo HTT",
        b"GET /echo HTTP/1.1\r\nX: y\r\n",
        b"POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf",
        b"POST /echo HTTP/1.1\r\nContent-Length: 900000\r\n\r\n" + b"x" * 200_000,
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ],
)
def test_a_request_that_does_not_end_is_cut_off(rig: Rig, data: bytes) -> None:
    client = rig.client(data)

    assert everything(client).startswith(b"HTTP/1.1 408 ")
    eventually(lambda: rig.connections == 0 and rig.held_bytes == 0, "the server lets go")


def test_a_body_that_drips_is_cut_off_though_it_never_stops(rig: Rig) -> None:
    client = rig.client(b"POST /size HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
    deadline = time.monotonic() + 20

    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            client.sendall(b"x")
            time.sleep(0.02)  # the client's own pace: it is what the test is about

    assert time.monotonic() < deadline
    assert everything(client).startswith((b"HTTP/1.1 408 ", b""))


def test_a_client_that_says_nothing_is_let_go(rig: Rig) -> None:
    never, once = rig.client(), rig.client(GET)

    assert one(once).startswith(b"HTTP/1.1 200")
    assert (everything(never), everything(once)) == (b"", b"")


def test_a_client_that_does_not_read_costs_little_and_is_cut_off(rig: Rig) -> None:
    client = rig.client(b"GET /large HTTP/1.1\r\n\r\n" * 20, buffer_bytes=4096)
    assert client.recv(100).startswith(b"HTTP/1.1 200")

    eventually(lambda: rig.connections == 0, "the client is cut off")
    assert len(everything(client)) < Echo.LARGE_BYTES


def test_a_slow_reader_gets_everything_in_order(patient: Rig) -> None:
    client = patient.client(b"GET /large HTTP/1.1\r\n\r\n" * 3 + GET, buffer_bytes=4096)
    client.sendall(b"GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n")

    got = everything(client)

    assert got.count(b"HTTP/1.1 200 OK") == 5
    assert len(got) > 3 * Echo.LARGE_BYTES


def test_a_stream_waits_for_its_reader_and_ends_with_him(patient: Rig) -> None:
    client = patient.client(b"GET /endless HTTP/1.1\r\n\r\n", buffer_bytes=4096)
    assert b"transfer-encoding: chunked" in one(client)
    (connection,) = patient.running.server._shared.connections
    eventually(lambda: connection._outlet.full, "the server stops writing")

    assert connection._transport.get_write_buffer_size() < 1_000_000
    client.close()
    eventually(lambda: patient.app.cancelled == 1, "the generator is closed")


def test_a_stream_is_sent_in_chunks_or_to_the_end_of_an_old_connection(patient: Rig) -> None:
    new = patient.client(b"GET /stream HTTP/1.1\r\nConnection: close\r\n\r\n")
    old = patient.client(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")

    chunked = everything(new).partition(b"\r\n\r\n")[2]
    plain = everything(old).partition(b"\r\n\r\n")[2]

    assert chunked == b"8\r\npiece 0;\r\n8\r\npiece 1;\r\n8\r\npiece 2;\r\n0\r\n\r\n"
    assert plain == b"piece 0;piece 1;piece 2;"


def test_one_client_too_many_is_told_so(rig: Rig) -> None:
    for _ in range(QUICK.connections):
        one(rig.client(GET))

    answer = everything(rig.client())

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer


def test_a_claim_of_two_gigabytes_is_refused_unread(rig: Rig) -> None:
    client = rig.client(b"POST /echo HTTP/1.1\r\nContent-Length: 2147483648\r\n\r\n")

    answer = everything(client)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


def test_bodies_of_several_clients_are_bounded_together(rig: Rig) -> None:
    head = b"POST /echo HTTP/1.1\r\nContent-Length: 900000\r\n\r\n"
    first = rig.client(head + b"x" * 800_000)
    eventually(lambda: rig.held_bytes == 800_000, "the first body is held")

    second = rig.client(head)
    second.sendall(b"x" * 900_000)

    assert one(second).startswith(b"HTTP/1.1 429 ")
    assert everything(first).startswith(b"HTTP/1.1 408 ")
    eventually(lambda: rig.held_bytes == 0, "nothing is held")


@pytest.mark.parametrize("path", [b"/echo", b"/later"])
def test_what_was_sent_ahead_is_answered_in_order(patient: Rig, path: bytes) -> None:
    bodies = [b"%d" % number * 3 for number in range(200)]
    data = b"".join(
        b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)
        for body in bodies
    )
    client = patient.client(data + b"GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n")

    got = everything(client)

    found = [part.partition(b"\r\n\r\n")[2] for part in got.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert found == [*bodies, b""]


def test_large_bodies_come_whole_and_the_next_request_behind_them(patient: Rig) -> None:
    body = bytes(range(256)) * 12_000
    head = b"POST /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    client = patient.client()
    data = (head + body) * 2 + b"GET /size HTTP/1.1\r\nConnection: close\r\n\r\n"
    sending = threading.Thread(target=client.sendall, args=(data,))
    sending.start()

    answers = everything(client).split(b"HTTP/1.1 200 OK\r\n")[1:]
    sending.join()

    assert [part.partition(b"\r\n\r\n")[2] for part in answers] == [body, body, b"0"]
    eventually(lambda: patient.held_bytes == 0, "nothing is held")


def test_a_client_that_waits_for_leave_gets_it(patient: Rig) -> None:
    client = patient.client(
        b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"

    client.sendall(b"hello")

    assert one(client).endswith(b"hello")


def test_old_clients_are_kept_only_if_they_ask(patient: Rig) -> None:
    once = patient.client(b"GET /size HTTP/1.0\r\n\r\n")
    assert b"connection: close" in everything(once)

    kept = patient.client(b"GET /size HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"connection: keep-alive" in one(kept)
    kept.sendall(b"GET /size HTTP/1.0\r\n\r\n")
    assert everything(kept).endswith(b"0")


def test_what_a_client_asked_that_is_gone_is_dropped(patient: Rig) -> None:
    client = patient.client(b"GET /wait HTTP/1.1\r\n\r\n" + GET)
    assert patient.app.began.wait(10)

    client.close()

    eventually(lambda: patient.app.cancelled == 1, "the request is cancelled")
    eventually(lambda: patient.connections == 0, "the client is forgotten")
    assert one(patient.client(GET)).startswith(b"HTTP/1.1 200")


def test_clients_that_leave_anywhere_do_no_harm(patient: Rig) -> None:
    whole = (
        b"POST /later HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000
        + b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + GET
    )  # fmt: skip
    for cut in (1, 20, 50, 52, 5000, 70_000, 140_000, 200_051, 200_060, 200_115, len(whole)):
        patient.client(whole[:cut]).close()

    eventually(lambda: patient.connections == 0, "all clients are forgotten")
    assert patient.held_bytes == 0
    assert one(patient.client(GET)).startswith(b"HTTP/1.1 200")


def test_a_fault_of_ours_ends_one_connection_and_is_logged(
    patient: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    client = patient.client(b"GET /fail HTTP/1.1\r\n\r\n")

    assert everything(client) == b""
    assert [record.message for record in caplog.records] == ["request failed"]
    assert one(patient.client(GET)).startswith(b"HTTP/1.1 200")


def test_a_server_that_nobody_asks_sleeps(patient: Rig) -> None:
    client = patient.client(GET)
    assert one(client).startswith(b"HTTP/1.1 200")
    watch = patient.running.server._shared.watch

    asleep_for_s = watch._wakes_at - time.monotonic()
    client.close()

    assert asleep_for_s > Limits().idle_s / 2
