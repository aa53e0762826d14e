"""JSON values to arrays, fast where they are what they should be.

`struct` packs a flat list of numbers in C and refuses what is none or does not fit. Whatever it
does not take, nested, null or wrong, goes through runtime.inference.tensors, whose word is the last
one: so both ways give the same arrays and the same errors.
"""

import math
import struct
from typing import Any

import numpy as np

from runtime.bundle.index import DataType, TensorSpec
from runtime.errors import InvalidError
from runtime.inference import tensors
from runtime.inference.tensors import DTYPES, MAX_ELEMENTS, Array

_CODES: dict[str, str] = {
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
MAX_CACHED = 4096
_packers: dict[tuple[str, int], struct.Struct] = {}
_counts: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}


def count_of(name: str, shape: tuple[int, ...], spec: TensorSpec) -> int:
    """Return how many values a shape has; raise InvalidError unless the model takes that shape."""
    key = (shape, spec.shape)
    count = _counts.get(key)
    if count is None:
        field = f"inputs[{name}].shape"
        tensors.require_shape(field, shape, spec)
        count = math.prod(shape)
        if count > MAX_ELEMENTS:
            raise InvalidError(field, list(shape), f"send at most {MAX_ELEMENTS} values")
        if len(_counts) >= MAX_CACHED:
            _counts.clear()
        _counts[key] = count
    return count


def array_of(
    name: str, values: list[Any], shape: tuple[int, ...], spec: TensorSpec, *, bools: bool
) -> Array:
    """Return a tensor's values as the array that the model takes; raise InvalidError.

    `bools` says whether there may be any among the values: to `struct` they are numbers.
    """
    datatype = spec.datatype
    count = count_of(name, shape, spec)
    if not bools and count == len(values) and datatype in _CODES:
        try:
            packed = bytearray(_packer(datatype, count).pack(*values))
        except (struct.error, OverflowError, TypeError):
            pass
        else:
            return np.ndarray(shape, DTYPES[datatype], packed)
    field = f"inputs[{name}].data"
    return fitted(field, tensors.from_values(field, values, datatype), shape, count)


def fitted(field: str, array: Array, shape: tuple[int, ...], count: int) -> Array:
    """Return values, flat or nested as their shape says, in that shape; else raise InvalidError."""
    if array.shape == shape:
        return array
    if array.size != count or (array.ndim != 1 and count):
        raise InvalidError(
            field,
            f"values of shape {list(array.shape)}",
            f"send {count} values, flat or nested as the shape {list(shape)} says",
        )
    return array.reshape(shape)


def _packer(datatype: DataType, count: int) -> struct.Struct:
    key = (datatype, count)
    packer = _packers.get(key)
    if packer is None:
        packer = struct.Struct(f"<{count}{_CODES[datatype]}")
        if len(_packers) >= MAX_CACHED:
            _packers.clear()
        _packers[key] = packer
    return packer
