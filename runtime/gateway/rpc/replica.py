"""A replica as it is reached over gRPC: its channel, and how it is asked how it is."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from runtime.gateway.retries import Failure
from runtime.gateway.rpc import calls

PROBE_S = 2.0
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A channel of its own: it ends with the replica.
    ("grpc.use_local_subchannel_pool", 1),
)
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class RpcCarrier:
    """Calls one address."""

    def __init__(self, host: str, port: int, name: str) -> None:
        """Connect to nothing yet. `name` is what the replica is called in `:authority`."""
        shown = f"[{host}]" if ":" in host else host
        self._channel = grpc.aio.insecure_channel(
            f"{shown}:{port}", options=(*_OPTIONS, ("grpc.default_authority", name))
        )
        self._unary: dict[str, Any] = {}
        self._left: asyncio.Task[None] | None = None
        self.on_end: Callable[[], None] = lambda: None
        """Never called: the channel mends itself."""

    def unary(self, method: str) -> Any:
        """Return the callable of a method with one request and one answer, both bytes."""
        if method not in self._unary:
            self._unary[method] = self._channel.unary_unary(method)
        return self._unary[method]

    def stream(self, method: str) -> Any:
        """Return the callable of a method with many requests and answers, all bytes."""
        return self._channel.stream_stream(method)

    async def probe(self) -> bool:
        """Say whether the replica is ready; one that does not know the question is."""
        try:
            answer = await self.unary(calls.READY)(b"", timeout=PROBE_S)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNIMPLEMENTED
        except asyncio.CancelledError:
            if self._left is None:
                raise  # our own; else the channel's, which has been closed
            return False
        return bool(answer == calls.TRUE)

    def leave(self) -> None:
        """Close the channel once it is idle."""
        self._left = asyncio.get_running_loop().create_task(self._channel.close(grace=None))


def failure(error: grpc.aio.AioRpcError) -> Failure | None:
    """Return how a call failed if another replica may answer it; None: the error is the answer."""
    if error.code() not in _GONE:
        return None
    unreached = "connect" in (error.details() or "").lower()
    return Failure.UNREACHED if unreached else Failure.SILENT
