"""Content codings: bodies that come compressed, and answers that may go so."""

import http
import zlib
from collections.abc import Iterable

import zstandard

from runtime.errors import InvalidError
from runtime.serving.wire.answers import Answer, Piece
from runtime.serving.wire.errors import RefusedError
from runtime.serving.wire.intake import too_large

OFFERED = ("gzip", "deflate", "zstd")
"""Best first for a client that wants all the same: zstd is faster, and known to fewer."""
WORTH_BYTES = 8 * 1024
"""Of an answer, from which compressing it is worth its time."""
MAX_WINDOW_BYTES = 8 * 1024 * 1024
_CHUNK = 256 * 1024
_ZSTD_FEED = 1024
"""Little at a time, since what a piece unfolds to cannot be bounded."""
_BITS = {"gzip": 31, "deflate": 15}
"""What zlib calls these formats."""


def coding_of(value: bytes | None) -> str | None:
    """Return a body's coding, None for none; raise RefusedError for one that is not known."""
    name = b"identity" if value is None else value.strip().lower()
    if name in {b"identity", b""}:
        return None
    for known in OFFERED:
        if name in {known.encode(), b"x-" + known.encode()}:
            return known
    raise RefusedError(
        http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"Content-Encoding: {name[:60].decode('latin-1')} is not taken: use {', '.join(OFFERED)}",
        b"accept-encoding: %b\r\n" % ", ".join(OFFERED).encode(),
    )


def accepted(value: bytes | None) -> str | None:
    """Return the coding that an Accept-Encoding likes best; None: it asks for none of ours."""
    best, best_q = None, 0.0
    wants = {}
    for part in (value or b"").lower().split(b","):
        name, _, parameters = part.partition(b";")
        wants[name.strip().decode("latin-1")] = _quality(parameters)
    for known in OFFERED:
        if (q := wants.get(known, 0.0)) > best_q:
            best, best_q = known, q
    return best


def decompress(coding: str, body: bytes | memoryview, most_bytes: int) -> bytes:
    """Return the body; raise RefusedError if it is more than that, InvalidError if malformed."""
    try:
        whole = (
            _unzstd(body, most_bytes) if coding == "zstd" else _inflate(coding, body, most_bytes)
        )
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise InvalidError("body", f"{len(body)} bytes", f"it is no {coding}: {error}") from error
    if len(whole) > most_bytes:
        raise too_large(most_bytes)
    return whole


def compress(coding: str, answer: Answer) -> Answer:
    """Return an answer in that coding."""
    body = b"".join(_compressed(coding, answer.pieces))
    fields = b"content-encoding: %b\r\nvary: accept-encoding\r\n" % coding.encode()
    return Answer(answer.status, answer.fields + fields, body)


def _compressed(coding: str, pieces: Iterable[Piece]) -> Iterable[bytes]:
    maker = (
        zstandard.ZstdCompressor(level=1).compressobj()
        if coding == "zstd"
        else zlib.compressobj(1, zlib.DEFLATED, _BITS[coding])
    )
    for piece in pieces:
        yield maker.compress(piece)
    yield maker.flush()


def _inflate(coding: str, body: bytes | memoryview, most_bytes: int) -> bytes:
    if not body:
        raise EOFError("it is empty")
    made: list[bytes] = []
    room, rest = most_bytes + 1, bytes(body)
    while rest and room > 0:  # a gzip file may have several members
        inflater = zlib.decompressobj(_BITS[coding])
        while not inflater.eof and room > 0:
            piece = inflater.decompress(rest, min(room, _CHUNK))
            rest = inflater.unconsumed_tail
            if not piece and not rest and not inflater.eof:
                raise EOFError("it ends early")
            room -= len(piece)
            made.append(piece)
        rest = inflater.unused_data
    return b"".join(made)


def _unzstd(body: bytes | memoryview, most_bytes: int) -> bytes:
    size = zstandard.frame_content_size(body)
    if size > most_bytes:
        raise too_large(most_bytes)
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
    view, room = memoryview(body), most_bytes
    made: list[bytes] = []
    for at in range(0, len(view), _ZSTD_FEED):
        made.append(reader.decompress(view[at : at + _ZSTD_FEED]))
        room -= len(made[-1])
        if room < 0:
            raise too_large(most_bytes)
    if not reader.eof:
        raise EOFError("it ends early")
    return b"".join(made)


def _quality(parameters: bytes) -> float:
    name, _, value = parameters.partition(b"=")
    if name.strip() != b"q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
