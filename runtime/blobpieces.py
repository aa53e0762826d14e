"""Pieces of encoded blobs as they travel over MQTT: a small head and raw bytes.

    2 bytes          length of the head, big-endian
    head             one JSON object
    all the rest     the bytes

Small enough for every broker, and for what steers a device not to wait long behind one.
"""

import struct

import msgspec

from runtime.digests import Digest
from runtime.errors import InvalidError

MAX_PIECE_BYTES = 200 * 1024
MAX_HEAD_BYTES = 4096
_LENGTH = struct.Struct(">H")


class PartWanted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device asks for a piece of an encoded blob over MQTT (answered by a Head)."""

    id: str
    blob: Digest
    encoding: str
    start: int
    """Of the encoded bytes, or of the part table."""
    length: int
    """At most MAX_PIECE_BYTES."""
    base: Digest | None = None
    table: bool = False
    """The part table is meant."""


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a piece is, or why there is none."""

    id: str
    """That of the request."""
    total: int = 0
    """Bytes of the whole that it is a piece of."""
    error: str = ""
    retryable: bool = True
    wait_s: float = 0.0
    """Above 0, and no bytes: too fast; ask again after so long."""


def encode(head: Head, data: bytes = b"") -> bytes:
    """Return a piece as it travels; long texts are cut."""
    text = msgspec.json.encode(msgspec.structs.replace(head, error=head.error[:1000]))
    return _LENGTH.pack(len(text)) + text + data


def decode(payload: bytes) -> tuple[Head, bytes]:
    """Return head and bytes; raise InvalidError if they cannot be meant."""
    if len(payload) > _LENGTH.size + MAX_HEAD_BYTES + MAX_PIECE_BYTES:
        fix = f"send at most {MAX_PIECE_BYTES} bytes and a head"
        raise InvalidError("piece", f"{len(payload)} bytes", fix)
    try:
        (length,) = _LENGTH.unpack_from(payload)
        start = _LENGTH.size + length
        head = msgspec.json.decode(payload[_LENGTH.size : start], type=Head)
    except (struct.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError("piece", payload[:80], str(error)) from error
    return head, payload[start:]
