"""Tensors as the Open Inference Protocol's raw bytes: gRPC's, and those of HTTP's binary extension.

Values lie row by row, little-endian as numpy has them on every machine that this runs on. BOOL is a
byte of 0 or 1. BYTES are values one after the other, each behind its length in four bytes; to a
model they are text, so they must be UTF-8.

    41 42 43           "abc"   03 00 00 00 61 62 63
"""

import math
import struct
from collections.abc import Sequence

import numpy as np

from runtime.bundle.index import TensorSpec
from runtime.errors import InvalidError, ModelError
from runtime.inference import tensors
from runtime.inference.tensors import DTYPES, Array

_LENGTH = struct.Struct("<I")
_OBJECT = DTYPES["BYTES"]
_BOOL = DTYPES["BOOL"]


def decode(field: str, data: bytes | memoryview, shape: tuple[int, ...], spec: TensorSpec) -> Array:
    """Return raw bytes as the array that the model takes; raise InvalidError if they are none.

    The array is a view of `data`, not to be written to, save of BYTES. `field` names the tensor.
    """
    tensors.require_shape(f"{field}.shape", shape, spec)
    count = math.prod(shape)
    dtype = DTYPES[spec.datatype]
    if dtype is _OBJECT:
        return _decode_texts(field, data, count).reshape(shape)
    if len(data) != count * dtype.itemsize:
        raise InvalidError(
            field,
            f"{len(data)} raw bytes",
            f"{spec.datatype} of shape {list(shape)} has {count * dtype.itemsize}",
        )
    if dtype is _BOOL and count and np.frombuffer(data, np.uint8).max() > 1:
        raise InvalidError(field, "a byte beyond 1", "send 0 or 1 for each BOOL")
    return np.frombuffer(data, dtype).reshape(shape)


def encode(array: Array) -> bytes:
    """Return an array's raw bytes, texts as UTF-8; raise ModelError for what is no text."""
    if array.dtype.kind in "OUS":
        return b"".join(_framed(array.ravel().tolist()))
    return array.tobytes()


def text(field: str, value: bytes) -> str:
    """Return one BYTES value as a model takes it; raise InvalidError unless it is UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidError(field, value, "BYTES are text here: send UTF-8") from error


def as_bytes(value: str | bytes) -> bytes:
    """Return one BYTES value of a model as it travels; raise ModelError if it is none."""
    if isinstance(value, bytes):
        return value
    try:
        return value.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise ModelError(f"an output of BYTES holds {value!r:.80}: give str or bytes") from error


def _decode_texts(field: str, data: bytes | memoryview, count: int) -> Array:
    # Each value has at least its length: so a shape that promises more than came costs nothing.
    if len(data) < count * _LENGTH.size:
        raise InvalidError(field, f"{len(data)} raw bytes", f"send {count} values with lengths")
    values = np.empty(count, _OBJECT)
    view = memoryview(data)
    at = 0
    for number in range(count):
        start = at + _LENGTH.size
        if start > len(view):
            raise InvalidError(field, f"{number} values", f"the shape has {count}")
        at = start + _LENGTH.unpack_from(view, at)[0]
        if at > len(view):
            raise InvalidError(
                field,
                f"value {number} of {at - start} bytes",
                f"{len(view) - start} bytes are left",
            )
        values[number] = text(field, bytes(view[start:at]))
    if at != len(view):
        raise InvalidError(field, f"{len(view) - at} bytes more", f"the shape has {count} values")
    return values


def _framed(values: Sequence[str | bytes]) -> list[bytes]:
    pieces: list[bytes] = []
    for value in values:
        data = as_bytes(value)
        pieces += (_LENGTH.pack(len(data)), data)
    return pieces
