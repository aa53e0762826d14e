"""What goes back: values, and the bytes that they are.

No Date is sent: on a device without a valid clock it would be false.
"""

import http
from collections.abc import AsyncGenerator, Sequence

import msgspec

JSON = b"content-type: application/json\r\n"
CLOSE = b"connection: close\r\n"
KEEP = b"connection: keep-alive\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
LINES = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode("ascii")
    for status in http.HTTPStatus
}
_OK_JSON = LINES[200] + JSON
JOIN_BYTES = 64 * 1024
"""Answers up to this size go to the socket in one piece."""

Piece = bytes | memoryview


class Answer:
    """A whole answer. `fields` are header lines, each with its line end."""

    __slots__ = ("fields", "pieces", "size", "status")

    def __init__(self, status: int, fields: bytes, *pieces: Piece) -> None:
        self.status, self.fields, self.pieces = status, fields, pieces
        self.size = sum(map(_size, pieces))


class Stream:
    """An answer that comes piece by piece; closed when it has ended or nobody takes it."""

    __slots__ = ("fields", "pieces", "status")

    def __init__(self, status: int, fields: bytes, pieces: AsyncGenerator[bytes]) -> None:
        self.status, self.fields, self.pieces = status, fields, pieces


def json(body: bytes, status: int = 200, fields: bytes = b"") -> Answer:
    """Return an answer in JSON."""
    return Answer(status, JSON + fields, body)


def error(status: int, text: str, fields: bytes = b"") -> Answer:
    """Return an error as the Open Inference Protocol has it."""
    return Answer(status, JSON + fields, msgspec.json.encode({"error": text}))


def render(answer: Answer, connection: bytes, *, bodiless: bool) -> Sequence[Piece]:
    """Return an answer's bytes; `connection` is a header line, or empty."""
    head = b"%bcontent-length: %d\r\n%b%b\r\n" % (
        LINES[answer.status],
        answer.size,
        answer.fields,
        connection,
    )
    if bodiless:
        return (head,)
    if answer.size <= JOIN_BYTES:
        return (b"".join((head, *answer.pieces)),)
    return (head, *answer.pieces)


def stream_head(stream: Stream, connection: bytes, *, chunked: bool) -> bytes:
    """Return a stream's head; without chunks it ends with its connection."""
    coding = b"transfer-encoding: chunked\r\n" if chunked else b""
    return b"%b%b%b%b\r\n" % (LINES[stream.status], stream.fields, coding, connection)


def chunk(piece: bytes) -> bytes:
    """Return a piece as a chunk."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _size(piece: Piece) -> int:
    return piece.nbytes if isinstance(piece, memoryview) else len(piece)
