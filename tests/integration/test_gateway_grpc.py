"""The gateway over gRPC, with real servers behind it and clients that we did not write."""

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient import grpc as triton

from runtime.gateway.config import Key, Limit
from tests.support import gateways
from tests.support.brokers import HOST, free_port
from tests.support.gateways import Backend, GatewayProcess, get_bytes, revision
from tests.support.load import RpcLoad

SERVICE = "/inference.GRPCInferenceService/"
KEY = Key("alice", hashlib.sha256(b"letmein").hexdigest())
SHOWN = (("authorization", "Bearer letmein"),)


@dataclasses.dataclass
class World:
    """A gateway before two replicas."""

    gateway: GatewayProcess
    address: str
    a: Backend
    b: Backend

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """Connect a client."""
        with grpc.insecure_channel(self.address) as channel:
            yield channel

    def infer(
        self, request: bytes, metadata: tuple[tuple[str, str], ...] = ()
    ) -> tuple[bytes, grpc.Call]:
        """Ask once, on a connection of its own."""
        with self.channel() as channel:
            ask = channel.unary_unary(f"{SERVICE}ModelInfer")
            answer, call = ask.with_call(request, timeout=20, metadata=metadata)
            return answer, call


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("gateway")
    a, b = (Backend(place, name, grpc=True).begin() for name in "ab")
    port = free_port()
    gateway = GatewayProcess(place, "--grpc-port", str(port))
    with gateways.running(gateway, a, b):
        a.await_ready()
        b.await_ready()
        gateway.configure(revision("r1", 50, [a]), revision("r2", 50, [b]))
        gateway.start()
        gateway.await_healthy(2, grpc=True)
        yield World(gateway, f"{HOST}:{port}", a, b)


@pytest.fixture(autouse=True)
def _both(world: World) -> None:
    world.gateway.apply(revision("r1", 50, [world.a]), revision("r2", 50, [world.b]))


def refused(world: World, request: bytes, metadata: tuple[tuple[str, str], ...] = ()) -> grpc.Call:
    """Ask for what fails; return how."""
    with pytest.raises(grpc.RpcError) as seen:
        world.infer(request, metadata)
    return seen.value


def test_revisions_take_turns_and_name_themselves(world: World) -> None:
    calls = [world.infer(b"x") for _ in range(4)]

    told = [dict(call.initial_metadata())["x-packhorse-revision"] for _, call in calls]
    assert sorted(told) == ["r1", "r1", "r2", "r2"]
    assert sorted(answer for answer, _ in calls) == [b"a:x", b"a:x", b"b:x", b"b:x"]


def test_a_key_is_demanded_and_goes_no_further(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]), anonymous=False, keys=(KEY,))

    assert refused(world, b"x").code() is grpc.StatusCode.UNAUTHENTICATED
    assert refused(world, b"x", (("x-api-key", "wrong"),)).code() is grpc.StatusCode.UNAUTHENTICATED
    answer, call = world.infer(b"x", (*SHOWN, ("x-request-id", "order-17"), ("x-kept", "1")))
    seen = dict(call.trailing_metadata())["seen"].split(",")
    assert answer == b"a:x"
    assert "authorization" not in seen
    assert {"x-kept", "x-request-id"} <= set(seen)
    assert dict(call.initial_metadata())["x-request-id"] == "order-17"


def test_a_key_s_limit_holds(world: World) -> None:
    limited = limited_to(KEY, Limit(per_s=0.1, burst=1))
    world.gateway.apply(revision("r1", 100, [world.a]), anonymous=False, keys=(limited,))
    world.infer(b"x", SHOWN)

    assert refused(world, b"x", SHOWN).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def limited_to(key: Key, limit: Limit) -> Key:
    """Return a key with a limit."""
    return Key(key.name, key.sha256, limit)


def test_an_error_of_the_model_is_passed_on(world: World) -> None:
    error = refused(world, b"invalid")

    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "no such input",
    )


def test_a_replica_that_hangs_is_late_in_time(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]), timeout_s=0.4)

    assert refused(world, b"hang").code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_message_above_the_limit_is_refused(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]), max_body_bytes=1000)

    assert refused(world, b"x" * 1001).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert world.infer(b"x" * 1000)[0] == b"a:" + b"x" * 1000


def test_a_service_without_replicas_is_unavailable(world: World) -> None:
    world.gateway.apply(revision("r1", 100), timeout_s=0.3)

    assert refused(world, b"x").code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("method", [f"{SERVICE}RepositoryModelUnload", "/other.Service/Method"])
def test_methods_with_effects_are_not_offered(world: World, method: str) -> None:
    with world.channel() as channel, pytest.raises(grpc.RpcError) as seen:
        channel.unary_unary(method)(b"", timeout=20)

    assert seen.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_streams_pass_through_both_ways(world: World) -> None:
    more = threading.Event()

    def ask() -> Iterator[bytes]:
        yield b"1"
        more.wait(20)
        yield b"2"

    with world.channel() as channel:
        answers = channel.stream_stream(f"{SERVICE}ModelStreamInfer")(ask(), timeout=20)
        first = next(answers)
        more.set()  # the second is sent only after the first is answered
        rest = list(answers)

    assert [first[1:], *(answer[1:] for answer in rest)] == [b":1", b":2"]


def test_a_stream_that_breaks_off_ends_with_the_replica_s_error(world: World) -> None:
    with world.channel() as channel:
        ask = channel.stream_stream(f"{SERVICE}ModelStreamInfer")
        answers = ask(iter([b"1", b"break"]), timeout=20)

        assert next(answers).endswith(b":1")
        with pytest.raises(grpc.RpcError) as seen:
            next(answers)

    assert (seen.value.code(), seen.value.details()) == (grpc.StatusCode.INTERNAL, "broken")


def test_a_stream_goes_to_another_replica_while_nothing_is_answered(world: World) -> None:
    gone = Backend(world.gateway.config.parent, "gone", grpc=True)
    world.gateway.apply(revision("r1", 100, [gone, world.a]))
    with world.channel() as channel:
        ask = channel.stream_stream(f"{SERVICE}ModelStreamInfer")
        answers = [list(ask(iter([b"1", b"2"]), timeout=20)) for _ in range(4)]

    assert answers == [[b"a:1", b"a:2"]] * 4


def test_tritonclient_sees_a_service_that_lives_and_is_ready(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]), anonymous=False, keys=(KEY,))
    world.gateway.await_healthy(1, grpc=True)
    with contextlib.closing(triton.InferenceServerClient(world.address)) as client:
        assert client.is_server_live()
        assert client.is_server_ready()

        world.gateway.apply(revision("r1", 100))

        assert not client.is_server_ready()


def test_no_call_fails_while_replicas_are_killed_and_drain(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a, world.b]))
    load = RpcLoad(world.gateway.config.parent, world.address)
    with gateways.running(load):
        load.spawn()
        load.await_answers(150)
        world.a.kill()
        load.await_answers(150)
        world.a.start()
        world.gateway.await_healthy(2, grpc=True)
        load.await_answers(150)
        world.b.stop()
        load.await_answers(150)
        world.b.start()
        world.gateway.apply(revision("r2", 100, [world.b]))
        load.await_answers(150)
        load.stop()

    assert load.told()["failures"] == []
    assert load.told()["kinds"] == ["a:x", "b:x"]
    assert b'rpcs_total{code="OK"}' in get_bytes(world.gateway.admin_port, "/metrics")[1]


def test_a_gateway_takes_over_the_port_of_another_without_a_failed_call(
    world: World, tmp_path: Path
) -> None:
    port = free_port()
    arguments = ("--reuse-port", "--grpc-port", str(port))
    old = GatewayProcess(tmp_path, *arguments, drain_s=1.0)
    new = GatewayProcess(tmp_path, *arguments, name="second", drain_s=1.0)
    new.take_port_of(old)
    loads = [RpcLoad(tmp_path, f"{HOST}:{port}", kind) for kind in ("kept", "fresh")]
    with gateways.running(old, new, *loads):
        old.configure(revision("r1", 100, [world.a]))
        old.start()
        old.await_healthy(1, grpc=True)
        for load in loads:
            load.spawn()
            load.await_answers(100)
        new.start()
        new.await_healthy(1, grpc=True)
        for load in loads:
            load.await_answers(100)
        assert old.stop() == 0
        for load in loads:
            load.await_answers(200)
            load.stop()

    assert [load.told()["failures"] for load in loads] == [[], []]
