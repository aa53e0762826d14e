"""Request bodies of any size as streams that a thread reads: nothing is held in memory.

Back-pressure comes for free: the next piece is taken from the socket when the one before is on
disk.
"""

from typing import Protocol

import anyio.from_thread
from fastapi import Request

from cloud.errors import TooLargeError


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        ...


class BodyReader:
    """The body of a request, for a route that runs in a thread.

    Raises ClientDisconnect if the client goes away, and what cloud.api.limits raises.
    """

    def __init__(self, request: Request) -> None:
        self._pieces = request.stream()
        self._piece = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes (-1: what has arrived); none at the end."""
        if not self._piece:
            self._piece = anyio.from_thread.run(self._next)
        if size < 0:
            size = len(self._piece)
        taken, self._piece = self._piece[:size], self._piece[size:]
        return taken

    def drain(self) -> None:
        """Read to the end and forget it: some clients listen only after they have sent all."""
        while self.read():
            pass

    async def _next(self) -> bytes:
        async for piece in self._pieces:
            return piece
        return b""


class Bounded:
    """A source that may give so many bytes."""

    def __init__(self, source: Readable, limit_bytes: int) -> None:
        self._source, self._left, self._limit = source, limit_bytes, limit_bytes

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; raise TooLargeError beyond the limit."""
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise TooLargeError(self._limit)
        return data
