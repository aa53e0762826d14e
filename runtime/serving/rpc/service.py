"""The methods of inference.GRPCInferenceService, and who may call them.

Beside it answers grpc.health.v1.Health/Check, which Kubernetes and load balancers ask.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from runtime.errors import PackhorseError
from runtime.serving.dataplane import DataPlane
from runtime.serving.protos import health_pb2
from runtime.serving.protos import open_inference_pb2 as pb
from runtime.serving.repository import Repository
from runtime.serving.rpc import caller as callers
from runtime.serving.rpc import changes, reads, status
from runtime.serving.rpc.infer import Infer
from runtime.serving.rpc.status import Context

PREFIX = f"/{reads.SERVICE}/"
HEALTH = "/grpc.health.v1.Health/Check"
OPEN = frozenset({f"{PREFIX}ServerLive", f"{PREFIX}ServerReady", HEALTH})
"""Methods that need no key: what keeps a server running asks them."""

Unary = Callable[[bytes, Context], Awaitable[bytes]]

_READS: dict[str, tuple[Any, reads.Answer]] = {
    "ServerLive": (pb.ServerLiveRequest, reads.live),
    "ServerReady": (pb.ServerReadyRequest, reads.ready),
    "ServerMetadata": (pb.ServerMetadataRequest, reads.metadata),
    "ModelReady": (pb.ModelReadyRequest, reads.model_ready),
    "ModelMetadata": (pb.ModelMetadataRequest, reads.model_metadata),
    "ModelConfig": (pb.ModelConfigRequest, reads.config),
    "ModelStatistics": (pb.ModelStatisticsRequest, reads.statistics),
}
_CHANGES: dict[str, tuple[Any, changes.Change]] = {
    "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, changes.load),
    "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, changes.unload),
}


class Service(grpc.GenericRpcHandler):
    """Finds the method for a call."""

    def __init__(
        self,
        plane: DataPlane,
        infer: Infer,
        *,
        repository: Repository | None = None,
        api_key: str | None = None,
    ) -> None:
        """Answer those who have the key, if there is one; load and unload if there is a place."""
        self._api_key, self._infer = api_key, infer
        self._infer_method, self._stream_method = f"{PREFIX}ModelInfer", f"{PREFIX}ModelStreamInfer"
        listed = functools.partial(changes.index, plane, repository)
        unaries: dict[str, Unary] = {
            "ModelInfer": infer.unary,
            "RepositoryIndex": _reading(pb.RepositoryIndexRequest, listed),
        }
        for name, (kind, answer) in _READS.items():
            unaries[name] = _reading(kind, functools.partial(answer, plane))
        for name, (kind, change) in _CHANGES.items():
            unaries[name] = _changing(kind, change, repository)
        self._handlers = {f"{PREFIX}{name}": _unary(handle) for name, handle in unaries.items()}
        healthy = functools.partial(reads.health, plane)
        self._handlers[HEALTH] = _unary(_reading(health_pb2.HealthCheckRequest, healthy))
        self._handlers[self._stream_method] = grpc.stream_stream_rpc_method_handler(infer.stream)
        # As one that takes a stream, it never reads what nobody has the right to send.
        self._deny: Any = grpc.stream_unary_rpc_method_handler(_deny)

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        """Return what handles a call; None: there is no such method."""
        method = call.method
        handler = self._handlers.get(method)
        if handler is None:
            return None
        caller = callers.read(call.invocation_metadata)
        if method not in OPEN and not callers.allowed(caller, self._api_key):
            return self._deny
        if caller.trace is not None or caller.request is not None:
            if method == self._infer_method:
                return _unary(functools.partial(self._infer.unary, caller=caller))
            if method == self._stream_method:
                return grpc.stream_stream_rpc_method_handler(
                    functools.partial(self._infer.stream, caller=caller)
                )
        return handler


def _unary(handle: Unary) -> Any:
    return grpc.unary_unary_rpc_method_handler(handle)


def _reading(kind: Any, answer: Callable[[Any], Any]) -> Unary:
    async def handle(data: bytes, context: Context) -> bytes:
        try:
            said: bytes = answer(reads.parse(kind, data)).SerializeToString()
        except PackhorseError as error:
            await status.refuse(context, error)
        return said

    return handle


def _changing(kind: Any, change: changes.Change, repository: Repository | None) -> Unary:
    async def handle(data: bytes, context: Context) -> bytes:
        if repository is None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                "this server does not load and unload: start it with --repository-api",
            )
        try:
            answer = await change(repository, reads.parse(kind, data))
        except PackhorseError as error:
            await status.refuse(context, error)
        said: bytes = answer.SerializeToString()
        return said

    return handle


async def _deny(_requests: Any, context: Context) -> bytes:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED,
        "a key is needed: send it as metadata `authorization: Bearer KEY`",
    )
