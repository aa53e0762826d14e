"""Request bodies of any size as streams that a thread reads: nothing is held in memory.

Back-pressure comes for free: the next piece is taken from the socket when the one before is on
disk.
"""

from typing import BinaryIO, Protocol, cast

import anyio.from_thread
import zstandard
from fastapi import Request

from cloud.errors import TooLargeError
from runtime.errors import InvalidError

MAX_WINDOW_BYTES = 128 << 20
"""Memory that a compressed body may ask for; what `zstd --long` needs at most."""


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


def decoded(body: Readable, encoding: str | None) -> Readable:
    """Return a body's content; raise InvalidError for a Content-Encoding that is not known.

    Reading it raises zstandard.ZstdError if it is not what it says.
    """
    if encoding in {None, "identity"}:
        return body
    if encoding != "zstd":
        raise InvalidError("Content-Encoding", encoding, "send zstd or identity")
    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    reader = decoder.stream_reader(cast("BinaryIO", body), read_across_frames=True)
    return cast("Readable", reader)
