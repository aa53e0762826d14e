"""gRPC servers that run in a thread of the test, and a plain client that speaks our messages."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import grpc
import numpy as np
import uvloop

from runtime.inference.tensors import Array
from runtime.serving.dataplane import DataPlane
from runtime.serving.protos import open_inference_pb2 as pb
from runtime.serving.rpc import server
from runtime.serving.rpc.server import RpcServer
from runtime.serving.rpc.service import PREFIX

Result = TypeVar("Result")
Metadata = Sequence[tuple[str, str]]
TIMEOUT_S = 30.0


class RunningRpc:
    """A server in a thread with an event loop of its own."""

    def __init__(self, plane: DataPlane, **settings: Any) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.server: RpcServer = self.do(server.start(plane, **settings))

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def do(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def stop(self, grace_s: float = 0.0) -> None:
        """End the server and its thread."""
        self.do(self.server.drain(grace_s))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def serving(plane: DataPlane, **settings: Any) -> Iterator[RunningRpc]:
    """Serve a data plane."""
    running = RunningRpc(plane, **settings)
    try:
        yield running
    finally:
        running.stop()


@contextlib.contextmanager
def client(address: int | str, options: Any = ()) -> Iterator["Client"]:
    """Connect to a port here, or to any address that grpc knows."""
    target = f"127.0.0.1:{address}" if isinstance(address, int) else address
    # A subchannel that is shared with another test would remember its refused connections.
    own = (("grpc.use_local_subchannel_pool", 1), *options)
    with grpc.insecure_channel(target, options=own) as channel:
        yield Client(channel)


class Client:
    """Calls methods by name; bytes in place of a message go as they are."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def call(self, method: str, request: Any, metadata: Metadata = (), **more: Any) -> Any:
        """Return the answer, parsed."""
        ask = self.channel.unary_unary(
            f"{PREFIX}{method}",
            request_serializer=_serialize,
            response_deserializer=getattr(pb, f"{method}Response").FromString,
        )
        return ask(request, metadata=metadata, **{"timeout": TIMEOUT_S, **more})

    def refusal(self, method: str, request: Any, metadata: Metadata = (), **more: Any) -> Any:
        """Return the error that a call ends with."""
        try:
            self.call(method, request, metadata, **more)
        except grpc.RpcError as error:
            return error
        raise AssertionError(f"{method} was answered")

    def answers(self, method: str, request: Any) -> bool:
        """Say whether a call is answered."""
        try:
            self.call(method, request)
        except grpc.RpcError:
            return False
        return True

    def stream(self, requests: Sequence[Any], metadata: Metadata = ()) -> list[Any]:
        """Return all answers to all requests of one stream."""
        ask = self.channel.stream_stream(
            f"{PREFIX}ModelStreamInfer",
            request_serializer=_serialize,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        return list(ask(iter(requests), metadata=metadata, timeout=TIMEOUT_S))


def request(
    model: str,
    array: Array,
    *,
    name: str = "x",
    version: str = "",
    id: str = "",  # noqa: A002 - the protocol's word
) -> pb.ModelInferRequest:
    """Return a request with one input, raw."""
    message = pb.ModelInferRequest(
        model_name=model,
        model_version=version,
        id=id,
        raw_input_contents=[array.tobytes()],
    )
    message.inputs.add(name=name, datatype="FP32", shape=array.shape)
    return message


def values(answer: pb.ModelInferResponse) -> Any:
    """Return the first output of a raw answer, FP32, as nested lists."""
    shape = tuple(answer.outputs[0].shape)
    return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(shape).tolist()


def _serialize(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())
