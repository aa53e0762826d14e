"""How a module's worker asks the candidate beside it: one question at a time on a Unix socket.

Frames are a four-byte big-endian length, then msgpack; tensors travel as raw bytes.
"""

import collections
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from runtime import unixsockets
from runtime.bundle.index import DataType, TensorSpec
from runtime.errors import LinkError, PackhorseError
from runtime.inference import raw, tensors
from runtime.inference.tensors import Array, Arrays

LENGTH_BYTES = 4
MAX_FRAME_BYTES = 256 << 20
READ_BYTES = 1 << 20
HUNG_UP = "no answer: it hung up"

Frame = TypeVar("Frame", bound=msgspec.Struct)


class LineError(LinkError):
    """The candidate has no answer, or none in time."""


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """A tensor."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    data: bytes


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """Run once."""

    bundle: str
    """Whom it is for: a line may have outlived another candidate."""
    inputs: tuple[Packed, ...]
    outputs: tuple[str, ...] | None
    """Those wanted; None: all."""


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """What came of it."""

    outputs: tuple[Packed, ...] = ()
    taken_ms: float = 0.0
    """In the model alone."""
    cpu_s: float = 0.0
    """Processor time of the candidate's process so far."""
    error: str = ""


class Given(msgspec.Struct, frozen=True):
    """An answer."""

    outputs: Arrays
    taken_ms: float
    cpu_s: float


def pack(arrays: Mapping[str, Array]) -> tuple[Packed, ...]:
    """Return arrays as they travel; raise ModelError for what cannot."""
    return tuple(
        Packed(name, tensors.datatype_of(name, array), array.shape, raw.encode(array))
        for name, array in arrays.items()
    )


def unpack(packed: Sequence[Packed]) -> Arrays:
    """Return arrays that may be written to; raise InvalidError for what is none."""
    return {
        each.name: raw.decode(
            each.name, each.data, each.shape, TensorSpec(each.name, each.datatype, each.shape)
        ).copy()
        for each in packed
    }


def send(connection: socket.socket, frame: msgspec.Struct) -> None:
    """Send one frame; raise OSError."""
    body = msgspec.msgpack.encode(frame)
    connection.sendall(len(body).to_bytes(LENGTH_BYTES, "big") + body)


def receive(connection: socket.socket, kind: type[Frame]) -> Frame | None:
    """Return the next frame, None if the other side has hung up; raise OSError, LineError."""
    head = _exactly(connection, LENGTH_BYTES)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    if length > MAX_FRAME_BYTES:
        raise LineError(f"a frame of {length} bytes")
    body = _exactly(connection, length)
    if body is None:
        return None
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise LineError(f"nonsense on the line: {error}") from error


def _exactly(connection: socket.socket, count: int) -> bytearray | None:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(min(READ_BYTES, count - len(data)))
        if not piece:
            return None
        data += piece
    return data


class Lines:
    """Connections to one candidate; any thread may ask, each on one of its own."""

    def __init__(self, path: Path, bundle: str) -> None:
        """Connect when first asked."""
        self._path, self._bundle = path, bundle
        self._free: collections.deque[socket.socket] = collections.deque()

    def ask(self, inputs: Arrays, outputs: Sequence[str] | None, timeout_s: float) -> Given:
        """Return the candidate's answer; raise LineError."""
        wanted = None if outputs is None else tuple(outputs)
        try:
            answered = self._exchange(Asked(self._bundle, pack(inputs), wanted), timeout_s)
            if not answered.error:
                given = unpack(answered.outputs)
                return Given(given, answered.taken_ms, answered.cpu_s)
        except TimeoutError as error:
            raise LineError(f"no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise LineError(f"no answer: {error}") from error
        except PackhorseError as error:
            raise LineError(str(error)) from error
        raise LineError(answered.error)

    def close(self) -> None:
        """Let go of all that nobody uses."""
        while self._free:
            self._free.pop().close()

    def _exchange(self, asked: Asked, timeout_s: float) -> Answered:
        connection = self._take(timeout_s)
        try:
            connection.settimeout(timeout_s)
            send(connection, asked)
            answered = receive(connection, Answered) or Answered(error=HUNG_UP)
        except BaseException:
            connection.close()
            raise
        if answered.error == HUNG_UP:
            connection.close()
        else:
            self._free.append(connection)
        return answered

    def _take(self, timeout_s: float) -> socket.socket:
        try:
            return self._free.pop()
        except IndexError:
            return unixsockets.connect(self._path, timeout_s=timeout_s)
