"""What a server and a script's process say to one another, over a socket pair.

    server                      script
      Start ──────────────────►
            ◄────────────────── Started | Failed
      Call + arrays ──────────►
            ◄────────────────── Answer + arrays                one, of a Call without `stream`
            ◄────────────────── Answer + arrays … End          pieces, of a Call with it
            ◄────────────────── Refused                        the call failed
      More ───────────────────►                                one more piece may come
      Cancel ─────────────────►                                nobody waits for this call any more

A frame is a four-byte big-endian length, a msgpack header of that length, and the bytes of its
arrays, in the header's order. Numbers travel as they lie in memory, received where they stay;
text travels in the header.
"""

import math
import socket
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from runtime.errors import InvalidError
from runtime.inference.tensors import Array, Arrays

LENGTH_BYTES = 4
MAX_HEADER_BYTES = 64 << 20
MAX_ARRAY_BYTES = 4 << 30
_IOV = 64
"""Buffers in one system call."""


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Anything that is said."""


class Start(Message, frozen=True):
    """Load this bundle."""

    directory: str
    index: bytes
    allow: tuple[str, ...]


class Started(Message, frozen=True):
    """It is loaded, and has this kind of run()."""

    has_run: bool
    streams: bool
    callers: int
    output_names: tuple[str, ...] | None


class Failed(Message, frozen=True):
    """It cannot be loaded; the process ends."""

    text: str


class Call(Message, frozen=True):
    """Run on the arrays that follow."""

    call: int
    wanted: tuple[str, ...] | None
    stream: bool


class Answer(Message, frozen=True):
    """What a run gave is in the arrays that follow."""

    call: int


class End(Message, frozen=True):
    """There are no more pieces."""

    call: int


class Refused(Message, frozen=True):
    """A run failed: ModelError(text), or, with a field, InvalidError(field, value, fix)."""

    call: int
    text: str
    field: str = ""
    value: str = ""


class More(Message, frozen=True):
    """A piece was taken."""

    call: int


class Cancel(Message, frozen=True):
    """Nobody waits for this call."""

    call: int


AnyMessage = Start | Started | Failed | Call | Answer | End | Refused | More | Cancel


class _Header(msgspec.Struct, frozen=True, array_like=True):
    message: AnyMessage
    arrays: tuple[tuple[str, str, tuple[int, ...], Any], ...] = ()
    """Name, numpy's name of the type, shape; and the values, flat, of what is no number."""


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Header)


def send(channel: socket.socket, message: Message, arrays: Arrays | None = None) -> None:
    """Send a frame; raise OSError if the other side is gone or does not read (TimeoutError)."""
    described: list[tuple[str, str, tuple[int, ...], Any]] = []
    buffers: list[memoryview] = []
    for name, array in (arrays or {}).items():
        if array.dtype.kind in "OUS":
            described.append((name, "O", array.shape, array.ravel().tolist()))
            continue
        whole = np.ascontiguousarray(array)
        described.append((name, whole.dtype.str, array.shape, None))
        buffers.append(_bytes(whole))
    header = _ENCODER.encode(_Header(message, tuple(described)))  # type: ignore[arg-type] # one of AnyMessage
    head = len(header).to_bytes(LENGTH_BYTES, "big") + header
    _send_all(channel, [memoryview(head), *(b for b in buffers if len(b))])


def receive(channel: socket.socket) -> tuple[AnyMessage, Arrays] | None:
    """Return the next frame, None at the end; raise InvalidError for what is no frame."""
    length = _receive_bytes(channel, LENGTH_BYTES)
    if length is None:
        return None
    size = int.from_bytes(length, "big")
    if size > MAX_HEADER_BYTES:
        raise InvalidError("frame", size, f"a header has at most {MAX_HEADER_BYTES} bytes")
    content = _receive_bytes(channel, size)
    if content is None:
        return None
    try:
        header = _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError("frame", content[:80], str(error)) from error
    arrays: Arrays = {}
    left = MAX_ARRAY_BYTES
    for name, dtype, shape, values in header.arrays:
        array = _array(dtype, shape, values, left)
        left -= array.nbytes
        if values is None and not _fill(channel, array):
            return None
        arrays[name] = array
    return header.message, arrays


def _array(dtype: str, shape: tuple[int, ...], values: Any, left: int) -> Array:
    """Return an array of a frame, with its values if they came in the header."""
    try:
        kind = np.dtype(dtype)
        if kind.hasobject != (values is not None) or math.prod(shape) * kind.itemsize > left:
            raise InvalidError("frame", shape, f"arrays have at most {MAX_ARRAY_BYTES} bytes")
        if values is None:
            return np.empty(shape, kind)
        array = np.empty(len(values), kind)
        array[:] = values
        return array.reshape(shape)
    except (TypeError, ValueError) as error:
        raise InvalidError("frame", f"{dtype}{list(shape)}", str(error)) from error


def _fill(channel: socket.socket, array: Array) -> bool:
    """Receive an array's bytes where it lies; say whether all came."""
    return not array.nbytes or _receive_into(channel, _bytes(array))


def _bytes(array: Array) -> memoryview:
    """Return an array's memory, byte by byte."""
    return memoryview(array.reshape(-1).view(np.uint8).data)


def _receive_bytes(channel: socket.socket, size: int) -> bytes | None:
    content = bytearray(size)
    return bytes(content) if _receive_into(channel, memoryview(content)) else None


def _receive_into(channel: socket.socket, view: memoryview) -> bool:
    while len(view):
        count = channel.recv_into(view)
        if not count:
            return False
        view = view[count:]
    return True


def _send_all(channel: socket.socket, buffers: list[memoryview]) -> None:
    while buffers:
        sent = channel.sendmsg(buffers[:_IOV])
        buffers = _rest(buffers, sent)


def _rest(buffers: Iterable[memoryview], sent: int) -> list[memoryview]:
    rest = []
    for buffer in buffers:
        if sent < len(buffer):
            rest.append(buffer[sent:])
        sent = max(0, sent - len(buffer))
    return rest
