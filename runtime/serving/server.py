"""An HTTP server that can give its listeners up without failing a request.

Two processes listen on the same socket while one takes over from the other:

    new  ──────────────── accept ═══════════════════════════►
    old  ═══════════════════════ hold ── last answers ── stop

What waits in the socket's queue belongs to the socket, so whoever still accepts takes it. The trap
is the idle keep-alive connection: closed while its client sends, it fails that request. So after
`hold` each connection stays open for one more request, which is answered with `Connection: close`,
or until it has been idle for `linger_s`; and none is closed with bytes in it that were not read.

The connections are our own (runtime.serving.wire; ADR 0016 says why).
"""

import asyncio
import socket
import sys
from collections.abc import Sequence
from typing import Any

from runtime.serving.wire.app import App
from runtime.serving.wire.connection import Connection
from runtime.serving.wire.limits import Limits
from runtime.serving.wire.shared import Shared

BACKLOG = 1024
POLL_S = 0.02


class Server:
    """Serves an app on listening sockets that other processes may share."""

    def __init__(
        self, app: App, sockets: Sequence[socket.socket], *, limits: Limits | None = None
    ) -> None:
        """Take no connections yet. The sockets stay open, and the caller's."""
        self._sockets = list(sockets)
        self._limits = limits or Limits()
        self._shared = Shared(app, self._limits)
        self._listeners: list[asyncio.AbstractServer] = []
        self._lingered_at: float | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._shared.connections)

    async def accept(self) -> None:
        """Take connections; also again after `hold`."""
        self._shared.holding, self._lingered_at = False, None
        if self._listeners:
            return
        for shared in self._sockets:
            self._listeners.append(await self._listen(shared))

    @property
    def busy(self) -> bool:
        """Say whether a request is in hand, or on its way in."""
        return any(not connection.idle for connection in self._shared.connections)

    def wind_down(self) -> None:
        """Go on taking connections, but let each end with its next answer."""
        self._shared.holding = True
        for connection in tuple(self._shared.connections):
            connection.hold()

    def hold(self) -> None:
        """Take no new connections, and let those that stand end with their next answer."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._lingered_at is None:
            self._lingered_at = asyncio.get_running_loop().time() + self._limits.linger_s
            self.wind_down()

    async def stop(self, grace_s: float) -> None:
        """End all connections: the idle, then the others with their answer or after `grace_s`.

        After a `hold`, the idle may linger as it says; without one they are closed at once, since
        then nobody takes over.
        """
        now = asyncio.get_running_loop().time
        lingered_at = now() if self._lingered_at is None else self._lingered_at
        self.hold()
        deadline = now() + grace_s
        while self._shared.connections and now() < deadline:
            if now() >= lingered_at:
                for connection in tuple(self._shared.connections):
                    connection.end(now=False)
            await asyncio.sleep(POLL_S)
        for connection in tuple(self._shared.connections):
            connection.end(now=True)

    async def _listen(self, shared: socket.socket) -> asyncio.AbstractServer:
        # A copy, since the loop closes what it listened on. On 3.13 it would remove the path too.
        copy = shared.dup()
        loop = asyncio.get_running_loop()
        if copy.family == socket.AF_UNIX:
            keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            return await loop.create_unix_server(self._connect, sock=copy, backlog=BACKLOG, **keep)
        return await loop.create_server(self._connect, sock=copy, backlog=BACKLOG)

    def _connect(self) -> Connection:
        return Connection(self._shared)
