"""Inference servers that run in a thread of the test, and a plain HTTP client for their sockets."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from runtime import unixsockets
from runtime.bundle.index import Index
from runtime.clock import SystemClock
from runtime.inference.model import Model
from runtime.serving import measuring
from runtime.serving.dataplane import DataPlane
from runtime.serving.served import Prediction
from runtime.serving.server import Server
from runtime.serving.wire.app import App
from runtime.serving.wire.limits import Limits

Result = TypeVar("Result")


class UnixConnection(unixsockets.HTTPConnection):
    """An HTTP connection over a Unix socket that speaks JSON."""

    def __init__(self, path: str, *, timeout: float = 30.0) -> None:
        super().__init__(Path(path), timeout_s=timeout)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send one request, `body` as JSON unless it is bytes; return status and parsed answer."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self.request(method, path, data)
        answer = self.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else None


class RunningServer:
    """A Server in a thread with an event loop of its own."""

    def __init__(self, app: App, *listeners: socket.socket, limits: Limits | None = None) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.server = Server(app, listeners, limits=limits)

    def accept(self) -> None:
        """Take connections."""
        self._do(self.server.accept)

    def hold(self) -> None:
        """Give the listeners up."""

        async def hold() -> None:
            self.server.hold()

        self._do(hold)

    def stop(self, grace_s: float = 5.0) -> None:
        """End the server and its thread."""
        self._do(lambda: self.server.stop(grace_s))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, function: Callable[[], Awaitable[Result]]) -> Result:
        async def call() -> Result:
            return await function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(60)


def listen(path: Path) -> socket.socket:
    """Return a listening Unix socket; short paths only (108 bytes)."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1024)
    return listener


def add(plane: DataPlane, directory: Path, index: Index, version: str = "1") -> None:
    """Serve a bundle under its name, measured as servers do."""
    model = Model.load(directory, index)
    sample = measuring.sample(model.signature, directory, index)
    plane.add(index.name, version, model, measuring.measure(model, sample))


@contextlib.contextmanager
def plane_of(
    directory: Path,
    index: Index,
    on_prediction: Callable[[Prediction], None] = lambda _prediction: None,
    *,
    queue_limit: int = 256,
) -> Iterator[DataPlane]:
    """Serve a bundle under its name as version 1."""
    plane = DataPlane(on_prediction=on_prediction, clock=SystemClock(), queue_limit=queue_limit)
    add(plane, directory, index)
    yield plane
    plane.close()
