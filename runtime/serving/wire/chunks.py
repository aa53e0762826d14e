"""Bodies in chunks (RFC 9112, 7.1), taken apart without a copy too many.

    5 ; extension CRLF  hello CRLF  0 CRLF  trailer: x CRLF  CRLF
    └─ SIZE ──────────┘ └─ DATA ──┘ └ SIZE ┘ └─ TRAILER ─────────┘

httptools could do it, but does not say where a body ends and the next request begins.
"""

import http
import re

from runtime.serving.wire.errors import RefusedError

MAX_LINE_BYTES = 1024
"""Of a size with its extensions."""
MAX_TRAILER_BYTES = 16 * 1024
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\Z")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\x00]*\Z")


class Chunks:
    """Takes bytes as they come; what lies behind the body is not touched."""

    def __init__(self) -> None:
        self.done = False
        self._left = 0
        """Of the chunk in hand."""
        self._closing = False
        """The chunk's data is here, its line end not."""
        self._trailing = False
        self._trailer_bytes = 0

    def feed(self, data: bytearray, into: list[bytes]) -> None:
        """Move what there is of the body from the front of `data` to the end of `into`.

        Raises RefusedError for what is no chunk.
        """
        while not self.done:
            if self._left:
                if not data:
                    return
                piece = bytes(memoryview(data)[: self._left])
                del data[: len(piece)]
                self._left -= len(piece)
                self._closing = not self._left
                into.append(piece)
            elif (line := self._line(data)) is None:
                return
            else:
                self._read(line)

    def _line(self, data: bytearray) -> bytes | None:
        """Take one line; None: it is not whole yet."""
        end = data.find(b"\r\n", 0, MAX_LINE_BYTES + 2)
        if end < 0:
            if len(data) > MAX_LINE_BYTES:
                raise _refused("a line is too long")
            return None
        line = bytes(data[:end])
        del data[: end + 2]
        return line

    def _read(self, line: bytes) -> None:
        if self._closing:
            if line:
                raise _refused("a chunk is longer than its size")
            self._closing = False
        elif self._trailing:
            self._trailer_bytes += len(line)
            if line and (self._trailer_bytes > MAX_TRAILER_BYTES or not _TRAILER.match(line)):
                raise _refused("what follows the last chunk is no trailer")
            self.done = not line
        else:
            size = _SIZE.match(line)
            if size is None:
                raise _refused("a chunk has no size")
            self._left = int(size[1], 16)
            self._trailing = not self._left


def _refused(why: str) -> RefusedError:
    return RefusedError(http.HTTPStatus.BAD_REQUEST, f"malformed HTTP: {why}")
