"""What goes wrong before and behind the gateway, and what a client then sees."""

import contextlib
import dataclasses
import hashlib
import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.gateway.config import Capture, Key, Limit
from tests.support import gateways
from tests.support.brokers import HOST, free_port
from tests.support.commands import eventually
from tests.support.gateways import Backend, GatewayProcess, get, get_bytes, revision

SHA = hashlib.sha256(b"letmein").hexdigest()


@dataclasses.dataclass
class World:
    """A gateway before two replicas."""

    place: Path
    gateway: GatewayProcess
    a: Backend
    b: Backend

    def connect(self) -> socket.socket:
        """Open a connection to write bytes on."""
        return socket.create_connection((HOST, self.gateway.port), timeout=20)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("gateway")
    a, b = (Backend(place, name).begin() for name in "ab")
    gateway = GatewayProcess(place, "--capture", str(place / "captured"))
    with gateways.running(gateway, a, b):
        a.await_ready()
        b.await_ready()
        gateway.configure(revision("r1", 100, [a]))
        gateway.start()
        yield World(place, gateway, a, b)


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def test_a_replica_that_hangs_is_a_504_in_time(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]), timeout_s=0.4)

    status, body, _ = world.gateway.infer("hang")

    assert status == 504
    assert "r1" in body["error"]
    eventually(lambda: not world.a.seen()["hung"], "the replica was told")


@pytest.mark.parametrize("model", ["garbage", "vanish", "halfway"])
def test_a_replica_that_gives_no_whole_answer_is_a_502_and_others_are_tried_first(
    world: World, model: str
) -> None:
    world.gateway.apply(revision("r1", 100, [world.a, world.b]))
    world.gateway.await_healthy(2)
    before = world.a.seen()["calls"], world.b.seen()["calls"]

    status, body, _ = world.gateway.infer(model)

    assert status == 502
    assert "r1" in body["error"]
    assert (world.a.seen()["calls"], world.b.seen()["calls"]) > before
    assert world.b.seen()["calls"] > before[1]


def test_a_streamed_answer_that_breaks_off_is_no_whole_answer_to_the_client(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]))

    with pytest.raises(http.client.IncompleteRead) as seen:
        world.gateway.infer("broken")

    assert seen.value.partial == b"data: 1\n\n"


def test_events_pass_through_as_they_come(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]))
    connection = http.client.HTTPConnection(HOST, world.gateway.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/v2/models/stream/infer", b"{}")
        answer = connection.getresponse()
        came = [(time.monotonic(), answer.readline()) for _ in range(10)]

    events = [(at, line) for at, line in came if line.startswith(b"data")]
    assert [line for _, line in events] == [f"data: {n}\n".encode() for n in range(5)]
    # The replica takes a fifth of a second between the first and the last.
    assert events[-1][0] - events[0][0] > 0.1
    assert answer.headers["Content-Type"] == "text/event-stream"


def test_a_large_answer_comes_whole(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]))
    connection = http.client.HTTPConnection(HOST, world.gateway.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/v2/models/large/infer", b"{}")
        answer = connection.getresponse()

        assert answer.read() == b"x" * (8 << 20)
        assert answer.headers["Content-Length"] == str(8 << 20)


def test_a_client_that_leaves_ends_its_request_at_the_replica(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]))
    with world.connect() as client:
        client.sendall(
            b"POST /v2/models/hang/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
        )
        eventually(lambda: world.a.seen()["hung"], "the replica has it")

    eventually(lambda: not world.a.seen()["hung"], "the replica was told")


def test_a_claim_of_two_gigabytes_is_refused_before_a_byte_comes(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]))
    with world.connect() as client:
        client.sendall(
            b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2147483648\r\n\r\n"
        )

        head = client.recv(4096)

    assert head.startswith(b"HTTP/1.1 413 ")
    assert b'{"error":' in head


def test_a_body_that_grows_beyond_the_limit_is_refused(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]), max_body_bytes=1000)
    with world.connect() as client:
        client.sendall(
            b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"400\r\n" + b"x" * 1024 + b"\r\n"
        )

        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_come_is_a_408(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]), timeout_s=0.3)
    with world.connect() as client:
        client.sendall(
            b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
        )

        assert read_all(client).startswith(b"HTTP/1.1 408 ")


def test_a_body_in_slow_pieces_arrives_whole(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]))
    with world.connect() as client:
        client.sendall(
            b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Connection: close\r\nContent-Length: 3\r\n\r\n"
        )
        assert client.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for piece in (b"a", b"b", b"c"):
            client.sendall(piece)

        assert json.loads(read_all(client).partition(b"\r\n\r\n")[2])["body"] == "abc"


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_sound_http_is_a_400(world: World, sent: bytes) -> None:
    with world.connect() as client:
        client.sendall(sent)

        head, _, body = read_all(client).partition(b"\r\n\r\n")

    assert head.split()[1] == b"400"
    assert list(json.loads(body)) == ["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/metrics", 404),
        ("/v2/repository/index", 404),
        ("/v2/%72epository/index", 404),
        ("/v2/models/../repository/index", 400),
        ("/v2/models/%2e%2e/repository/index", 400),
        ("http://elsewhere/v2", 400),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2/health/other", 404),
    ],
)
def test_only_what_a_service_offers_goes_through(world: World, path: str, status: int) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]))
    world.gateway.await_healthy(1)

    assert get(world.gateway.port, path)[0] == status


def test_a_request_without_a_key_is_refused_and_health_is_open(world: World) -> None:
    gateway = world.gateway
    gateway.apply(revision("r1", 100, [world.a]), anonymous=False, keys=(Key("alice", SHA),))
    gateway.await_healthy(1)

    status, body, headers = gateway.infer()
    assert (status, list(body)) == (401, ["error"])
    assert headers["WWW-Authenticate"].startswith("Bearer")
    assert gateway.infer(headers={"Authorization": "Bearer wrong"})[0] == 401
    assert gateway.infer(headers={"Authorization": "Bearer letmein"})[0] == 200
    assert get(gateway.port, "/v2/health/ready")[0] == 200


def test_no_replica_sees_a_key_or_what_is_of_one_connection_alone(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]), anonymous=False, keys=(Key("alice", SHA),))
    sent = {
        "X-API-Key": "letmein",
        "Authorization": "Basic letmein",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
        "X-Kept": "yes",
        "X-Request-ID": "order-17",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }

    status, body, headers = world.gateway.infer(headers=sent)

    seen = {name.lower(): value for name, value in body["headers"].items()}
    assert status == 200
    assert {"x-api-key", "authorization", "x-hop", "connection"}.isdisjoint(seen)
    assert seen["x-kept"] == "yes"
    assert seen["x-request-id"] == headers["X-Request-ID"] == "order-17"
    assert seen["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert "b7ad6b7169203331" not in seen["traceparent"]


def test_a_key_that_asks_too_often_is_told_when_to_come_again(world: World) -> None:
    key = Key("alice", SHA, Limit(per_s=0.1, burst=2))
    world.gateway.apply(revision("r1", 100, [world.a]), anonymous=False, keys=(key,))
    shown = {"Authorization": "Bearer letmein"}

    answers = [world.gateway.infer(headers=shown) for _ in range(3)]

    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert 1 <= int(answers[-1][2]["Retry-After"]) <= 10


def test_a_service_without_replicas_is_a_503_and_not_ready(world: World) -> None:
    world.gateway.apply(revision("r1", 100, others=[f"{HOST}:{free_port()}"]), timeout_s=0.3)

    status, body, headers = world.gateway.infer()

    assert status == 503
    assert "r1" in body["error"]
    assert headers["Retry-After"]
    assert get(world.gateway.port, "/v2/health/ready")[0] == 503


def test_a_service_without_traffic_is_a_503(world: World) -> None:
    world.gateway.apply(revision("r1", 0, [world.a]), timeout_s=0.3)

    assert world.gateway.infer()[0] == 503


def test_an_error_of_the_model_is_passed_on_and_counted(world: World) -> None:
    world.gateway.apply(revision("failing", 100, [world.a]))

    status, body, _ = world.gateway.infer("failing")

    assert (status, body) == (500, {"error": "the model failed"})
    assert world.gateway.status().revisions[0].errors == 1


def test_a_revision_that_fails_is_counted_although_another_one_answers(world: World) -> None:
    gateway = world.gateway
    gone = f"{HOST}:{free_port()}"
    gateway.apply(revision("stable", 50, [world.a]), revision("canary", 50, others=[gone]))
    gateway.await_healthy(1)

    answers = [gateway.infer() for _ in range(10)]

    assert {(status, told["X-Packhorse-Revision"]) for status, _, told in answers} == {
        (200, "stable")
    }
    stable, canary = gateway.status().revisions
    assert (stable.requests, stable.errors) == (10, 0)
    assert (canary.requests, canary.errors) == (5, 5)


def test_a_name_that_vanishes_leaves_its_last_addresses_in_use(world: World) -> None:
    gateway = world.gateway
    gateway.apply(revision("r1", 100, others=[f"localhost:{world.a.port}", "nowhere.invalid:80"]))
    eventually(lambda: world.a.address in gateway.status().healthy["r1"], "the name is resolved")
    eventually(lambda: "nowhere.invalid" in gateway.tail(), "the other's trouble is logged")

    assert gateway.infer()[0] == 200


def test_the_mirror_is_asked_and_compared_but_never_answers(world: World) -> None:
    gateway = world.gateway
    gateway.apply(revision("m1", 100, [world.a]), revision("m2", 0, [world.b]), mirror="m2")
    gateway.await_healthy(2)
    answers = [
        gateway.infer(model)[2]["X-Packhorse-Revision"] for model in ("shares", "differs") * 3
    ]
    eventually(lambda: gateway.status().revisions[1].compared == 6, "all were compared")

    assert set(answers) == {"m1"}
    assert gateway.status().revisions[1].different == 3
    assert gateway.status().revisions[1].requests == 0
    assert "mirror answers differently" in gateway.tail()


def test_a_mirror_that_hangs_or_is_gone_slows_nobody(world: World) -> None:
    gateway = world.gateway
    gone = f"{HOST}:{free_port()}"
    gateway.apply(
        revision("m1", 100, [world.a]), revision("m2", 0, [world.b], others=[gone]), mirror="m2"
    )
    world.b.send_signal(signal.SIGSTOP)
    try:
        answers = [gateway.infer("shares")[0] for _ in range(400)]
    finally:
        world.b.send_signal(signal.SIGCONT)

    assert answers == [200] * 400
    dropped = get_bytes(gateway.admin_port, "/metrics")[1].split(b'dropped_total{what="mirror"} ')[
        1
    ]
    assert float(dropped.split()[0]) > 0


def test_what_is_captured_can_be_read_again(world: World) -> None:
    gateway = world.gateway
    gateway.apply(revision("r1", 100, [world.a]), capture=Capture(0.5, max_body_bytes=1000))
    sent = [gateway.infer(body=b"number %d" % n)[2]["X-Request-ID"] for n in range(10)]
    gateway.infer(body=b"\xff\x00", headers={"X-Request-ID": "binary"})
    gateway.infer(body=b"\xff\x00", headers={"X-Request-ID": "binary"})

    def kept() -> list[dict[str, object]]:
        found = sorted((world.place / "captured").glob("*.jsonl"))
        return [json.loads(line) for path in found for line in path.read_text().splitlines()]

    eventually(lambda: len(kept()) == 6, "every other request is kept")
    assert [line["id"] for line in kept()] == [*sent[1::2], "binary"]
    assert kept()[0]["request"] == "number 1"
    assert kept()[0]["revision"] == "r1"
    assert kept()[-1]["request_base64"] == "/wA="
    assert {path.stat().st_mode & 0o777 for path in (world.place / "captured").iterdir()} == {0o600}


def test_a_configuration_that_is_missing_at_first_is_waited_for(
    world: World, tmp_path: Path
) -> None:
    gateway = GatewayProcess(tmp_path)
    with gateways.running(gateway):
        gateway.start()
        assert gateway.infer()[0] == 503
        assert get(gateway.admin_port, "/-/ready")[0] == 503
        assert "cannot be read" in gateway.status().trouble

        gateway.apply(revision("r1", 100, [world.a]))

        assert get(gateway.admin_port, "/-/ready")[0] == 200
        assert gateway.infer()[0] == 200
        assert get(gateway.admin_port, "/-/live")[0] == 200
        assert get(gateway.admin_port, "/-/other")[0] == 404


def test_sigterm_ends_with_the_last_answer(world: World, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path)
    gateway.configure(revision("r1", 100, [world.a]))
    with gateways.running(gateway):
        gateway.start()
        idle = http.client.HTTPConnection(HOST, gateway.port, timeout=20)
        idle.connect()
        with gateways.asking(gateway, "slow") as asked:
            gateway.send_signal(signal.SIGTERM)
            eventually(lambda: get(gateway.admin_port, "/-/ready")[0] == 503, "it is not ready")
            idle.request("POST", "/v2/models/echo/infer", b"{}")
            answer = idle.getresponse()

        assert answer.status == 200
        assert answer.headers["Connection"] == "close"
        assert asked.result() == (200, {"backend": "a"})
        assert gateway.end() == 0


def test_a_port_that_is_taken_is_named(world: World, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path)
    gateway.take_port_of(world.gateway)
    gateway.spawn()
    eventually(lambda: not gateway.runs, "it ended")

    assert gateway.stop() == 2
    assert f"http address: '{HOST}:{world.gateway.port}'" in gateway.tail()
    assert "Traceback" not in gateway.tail()
