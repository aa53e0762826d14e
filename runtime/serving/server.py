"""An HTTP server that can give its listeners up without failing a request.

Two processes listen on the same socket while one takes over from the other:

    new  ──────────────── accept ═══════════════════════════►
    old  ═══════════════════════ hold ── last answers ── stop

What waits in the socket's queue belongs to the socket, so whoever still accepts takes it. The trap
is the idle keep-alive connection: closed while its client sends, it fails that request. So after
`hold` each connection stays open for one more request, which is answered with `Connection: close`,
or until it has been idle for `linger_s`; and none is closed with bytes in it that were not read.

The HTTP is uvicorn's (httptools); its own Server is not used, since that one cannot give up its
listeners and take them again, and wakes ten times a second. No Date is sent: on a device without a
valid clock it would be false.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

BACKLOG = 1024
KEEP_ALIVE_S = 75
"""Longer than the clients' own limits, so that it is they who close."""
LINGER_S = 5.0
POLL_S = 0.02
MAX_HEAD_BYTES = 64 * 1024
"""Of a request line and headers; what was read in one go is looked at all the same."""


class _State(ServerState):
    """What all connections of a server share."""

    def __init__(self) -> None:
        super().__init__()
        self.holding = False
        self.linger_s = LINGER_S


class _Connection(HttpToolsProtocol):
    """One client."""

    server_state: _State
    _arriving = False
    """The first bytes of a request are here, but not yet all of its headers."""

    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Read on; close on a client whose headers do not end."""
        super().data_received(data)
        if self._arriving:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("Headers are too large.")

    def on_message_begin(self) -> None:
        """See the first byte of a request."""
        super().on_message_begin()
        self._arriving, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Begin a request; the last one if the server gives up its traffic."""
        super().on_headers_complete()
        self._arriving = False
        if self.server_state.holding:
            self.cycle.keep_alive = False

    def hold(self) -> None:
        """Let the request in hand, or the next one, be the last."""
        if self._idle():
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.server_state.linger_s, self.timeout_keep_alive_handler
            )
        elif not self._arriving and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, unless a request has just come in."""
        if not self._has_unread():
            super().timeout_keep_alive_handler()

    def end(self, *, now: bool) -> None:
        """Close the connection if it is idle, or whatever it does."""
        if now:
            self.transport.abort()
        elif self._idle() and not self._has_unread():
            self.transport.close()

    def _idle(self) -> bool:
        answered = self.cycle is None or self.cycle.response_complete
        return answered and not self._arriving

    def _has_unread(self) -> bool:
        """Say whether bytes of the client wait that this process has not seen."""
        shared = self.transport.get_extra_info("socket")
        if shared is None or shared.fileno() < 0:
            return False
        with socket.socket(fileno=os.dup(shared.fileno())) as peeking:
            try:
                return bool(peeking.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
            except OSError:
                return False


class Server:
    """Serves an ASGI app on listening sockets that other processes may share."""

    def __init__(
        self, app: Any, sockets: Sequence[socket.socket], *, linger_s: float = LINGER_S
    ) -> None:
        """Take no connections yet. The sockets stay open, and the caller's."""
        self._sockets = list(sockets)
        self._state = _State()
        self._state.linger_s = linger_s
        self._listeners: list[asyncio.AbstractServer] = []
        self._lingered_at = 0.0
        self._config = uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._state.connections)

    def start(self) -> None:
        """Get ready to accept without a delay."""
        self._config.load()

    async def accept(self) -> None:
        """Take connections; also again after `hold`."""
        self._state.holding = False
        if self._listeners:
            return
        for shared in self._sockets:
            self._listeners.append(await self._listen(shared))

    def hold(self) -> None:
        """Take no new connections, and let those that stand end with their next answer."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._state.holding:
            return
        self._state.holding = True
        self._lingered_at = asyncio.get_running_loop().time() + self._state.linger_s
        for connection in self._ours():
            connection.hold()

    async def stop(self, grace_s: float) -> None:
        """End all connections: the idle, then the others with their answer or after `grace_s`.

        After a `hold`, the idle may linger as it says; without one they are closed at once, since
        then nobody takes over.
        """
        now = asyncio.get_running_loop().time
        lingered_at = self._lingered_at if self._state.holding else now()
        self.hold()
        deadline = now() + grace_s
        while self._state.connections and now() < deadline:
            if now() >= lingered_at:
                for connection in self._ours():
                    connection.end(now=False)
            await asyncio.sleep(POLL_S)
        for connection in self._ours():
            connection.end(now=True)

    async def _listen(self, shared: socket.socket) -> asyncio.AbstractServer:
        # A copy, since the loop closes what it listened on. On 3.13 it would remove the path too.
        copy = shared.dup()
        loop = asyncio.get_running_loop()
        if copy.family == socket.AF_UNIX:
            keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            return await loop.create_unix_server(self._connect, sock=copy, backlog=BACKLOG, **keep)
        return await loop.create_server(self._connect, sock=copy, backlog=BACKLOG)

    def _connect(self) -> _Connection:
        return _Connection(config=self._config, server_state=self._state, app_state={})

    def _ours(self) -> list[_Connection]:
        return [c for c in self._state.connections if isinstance(c, _Connection)]
