"""A replica as it is reached over HTTP: its open connections, and how it is asked how it is.

A kept connection may be closed by the replica at the very moment a request goes out on it. So a
request that finds its kept connection closed is sent again on a new one, to the same replica.
"""

import asyncio
import http
from collections.abc import Callable, Sequence

from runtime.gateway.errors import GatewayError, TryError
from runtime.gateway.retries import Failure
from runtime.gateway.upstream import Answer, Connection

CONNECT_S = 2.0
PROBE_S = 2.0
KEPT_MOST = 256
"""Connections kept open between requests."""


class HttpCarrier:
    """Sends requests to one address."""

    def __init__(self, host: str, port: int, name: str) -> None:
        """Connect to nothing yet. `name` is what the replica is called in `Host`."""
        self._host, self._port = host, port
        self._name = name.encode("ascii")
        self._kept: list[Connection] = []
        self._left = False
        self.on_end: Callable[[], None] = lambda: None
        """Called when a kept connection ends."""

    async def send(
        self, line: bytes, rest: Sequence[bytes], deadline: float, *, bodyless: bool = False
    ) -> Answer:
        """Send a request: its first line, then headers, an empty line and a body in `rest`.

        The caller gives the connection back with `done`, which it does not need for answers
        without a stream. Raises TryError or LateError.
        """
        parts = (line + b"host: " + self._name + b"\r\n", *rest)
        while self._kept:
            connection = self._kept.pop()
            if not connection.reusable:
                connection.close()
                continue
            try:
                return await self._ask(connection, parts, deadline, bodyless=bodyless)
            except TryError as error:
                if error.failure is not Failure.SILENT:
                    raise
                break  # the others are as old
        connection = await self._connect(deadline)
        return await self._ask(connection, parts, deadline, bodyless=bodyless)

    async def _ask(
        self, connection: Connection, parts: Sequence[bytes], deadline: float, *, bodyless: bool
    ) -> Answer:
        answer = await connection.ask(parts, deadline, bodyless=bodyless)
        if answer.stream is None:
            self.done(connection)
        return answer

    def done(self, connection: Connection) -> None:
        """Keep a connection for the next request, or close it."""
        if self._left or not connection.reusable or len(self._kept) >= KEPT_MOST:
            connection.close()
        else:
            self._kept.append(connection)

    async def probe(self) -> bool:
        """Say whether the replica is ready, asked on a new connection."""
        deadline = asyncio.get_running_loop().time() + PROBE_S
        try:
            connection = await self._connect(deadline)
        except GatewayError:
            return False
        head = b"GET /v2/health/ready HTTP/1.1\r\nhost: " + self._name + b"\r\n\r\n"
        try:
            answer = await connection.ask((head,), deadline)
        except GatewayError:
            return False
        finally:
            connection.close()
        return answer.status == http.HTTPStatus.OK

    def leave(self) -> None:
        """Close what is kept, and whatever is given back from now on."""
        self._left = True
        self.rest()

    def rest(self) -> None:
        """Close what is kept."""
        kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    async def _connect(self, deadline: float) -> Connection:
        loop = asyncio.get_running_loop()
        made = loop.create_connection(lambda: Connection(self._ended), self._host, self._port)
        try:
            _, connection = await asyncio.wait_for(made, min(CONNECT_S, deadline - loop.time()))
        except (OSError, asyncio.TimeoutError) as error:
            raise TryError(Failure.UNREACHED, f"no connection: {error}") from error
        return connection

    def _ended(self, connection: Connection) -> None:
        if connection in self._kept:
            self._kept.remove(connection)
            self.on_end()
