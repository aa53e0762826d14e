"""The HTTP server that clients meet, which can be given up without failing a request.

    accept ══════════════════ drain ──────────── stop ── last answers ── end
             new connections to another process, if one shares the port
             every answer says Connection: close

The trap is the idle keep-alive connection: closed while its client sends, it fails that request.
So while the gateway drains, connections end with their next answer, and those that stay idle are
closed at the end only if nothing waits in them unread.
"""

import asyncio
import contextlib
import http
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from runtime.gateway import reuseport

log = logging.getLogger(__name__)

BACKLOG = 2048
KEEP_ALIVE_S = 75.0
"""Longer than the clients' own limits, so that it is they who close. Also the time for a head."""
LINGERING_S = 5.0
"""For the rest of a body that was refused."""
CONNECTIONS_MOST = 8192
POLL_S = 0.02
_TOLD = 300
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Connection(RequestHandler):
    """One client."""

    __slots__ = ("arriving",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.arriving = False
        """The first bytes of a request are here, but not yet all of its head."""

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        waiter = self._waiter
        self.arriving = waiter is not None and not waiter.done()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no sound HTTP, and what a handler did not foresee."""
        if status == http.HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("request failed", exc_info=exc, extra={"path": request.raw_path[:_TOLD]})
            message = "the gateway failed: see its log"
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        told = (
            f"no sound HTTP: {message}"[:_TOLD]
            if status == http.HTTPStatus.BAD_REQUEST
            else message
        )
        body = msgspec.json.encode({"error": told})
        response = web.Response(status=status, body=body, content_type="application/json")
        response.force_close()
        return response

    @property
    def idle(self) -> bool:
        """Whether it waits for a request, and none has begun to arrive."""
        waiting = self._waiter is not None and not self._waiter.done()
        return waiting and not self.arriving and not _has_unread(self.transport)


class _Server(web.Server):
    """Makes our connections, and not too many."""

    def __call__(self) -> RequestHandler:
        connection = _Connection(self, loop=self._loop, **self._kwargs)
        if len(self.connections) >= CONNECTIONS_MOST:
            connection.keep_alive(False)
        return connection


class Front:
    """Serves a handler on a listening socket."""

    def __init__(self, handler: Handler, listener: socket.socket) -> None:
        """Take no connections yet; the socket is the front's from now on."""
        self._listener: socket.socket | None = listener
        self._server = _Server(
            handler,
            handler_cancellation=True,
            auto_decompress=False,
            access_log=None,
            logger=log,
            keepalive_timeout=KEEP_ALIVE_S,
            lingering_time=LINGERING_S,
            max_line_size=16_384,
            max_field_size=32_768,
        )
        self._accepting: asyncio.AbstractServer | None = None

    def _has_peer(self, address: tuple[str, int]) -> bool:
        return any(
            connection.peername is not None and connection.peername[:2] == address
            for connection in self._server.connections
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._listener is not None
        return int(self._listener.getsockname()[1])

    async def accept(self) -> None:
        """Take connections."""
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        if self._listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
            with contextlib.suppress(OSError):
                reuseport.choose_any(self._listener)  # what one before us may have left behind
        # A copy, since the loop closes what it listened on.
        copy = self._listener.dup()
        self._accepting = await loop.create_server(self._server, sock=copy, backlog=BACKLOG)

    async def send_elsewhere(self) -> bool:
        """Let another process that shares the port have new connections; False: there is none."""
        assert self._listener is not None
        return await reuseport.send_elsewhere(self._listener, self._has_peer)

    def hold(self) -> None:
        """Take no more connections."""
        if self._accepting is not None:
            self._accepting.close()
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def stop(self, grace_s: float) -> None:
        """End all connections: the idle now, the others with their answer or after `grace_s`."""
        self.hold()
        now = asyncio.get_running_loop().time
        deadline = now() + grace_s
        while self._server.connections and now() < deadline:
            for connection in self._server.connections:
                if isinstance(connection, _Connection) and connection.idle:
                    connection.force_close()
            await asyncio.sleep(POLL_S)
        await self._server.shutdown(POLL_S)


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """Return a listening socket; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.setblocking(False)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _has_unread(transport: asyncio.BaseTransport | None) -> bool:
    """Say whether bytes of the client wait that this process has not seen."""
    shared = None if transport is None else transport.get_extra_info("socket")
    if shared is None or shared.fileno() < 0:
        return False
    with socket.socket(fileno=os.dup(shared.fileno())) as peeking, contextlib.suppress(OSError):
        return bool(peeking.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    return False
