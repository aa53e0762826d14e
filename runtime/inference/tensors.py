"""Tensors between the Open Inference Protocol's JSON and numpy, and against a model's signature.

What the protocol leaves open: `data` may be flat or nested like `shape`; a missing number (NaN,
and an infinity on the way out) is `null`; BYTES are JSON strings, so text in UTF-8.
Numbers are never bent: 1.5 is no INT64, 300 no UINT8 and 1e39 no FP32.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from runtime.bundle.index import DataType, Signature, TensorSpec
from runtime.errors import InvalidError, ModelError

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
"""Tensor name to array."""

MAX_ELEMENTS = 64 * 1024 * 1024
MAX_DIMENSIONS = 16

DTYPES: dict[DataType, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
DATATYPES: dict[np.dtype[Any], DataType] = {dtype: name for name, dtype in DTYPES.items()}


class TensorIn(msgspec.Struct, frozen=True):
    """One input of a request, as it came."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class TensorOut(msgspec.Struct, frozen=True):
    """One output of an answer, as it goes."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    data: list[Any]
    """Flat, row by row."""


def decode(tensor: TensorIn, spec: TensorSpec) -> Array:
    """Return a request's tensor as the array that the model takes; raise InvalidError if it isn't.

    The array has exactly the datatype of `spec` and a shape that fits it.
    """
    field = f"inputs[{tensor.name}]"
    if tensor.datatype != spec.datatype:
        raise InvalidError(f"{field}.datatype", tensor.datatype, f"the model takes {spec.datatype}")
    require_shape(f"{field}.shape", tensor.shape, spec)
    count = math.prod(tensor.shape)
    if count > MAX_ELEMENTS:
        raise InvalidError(f"{field}.shape", tensor.shape, f"send at most {MAX_ELEMENTS} values")
    array = from_values(f"{field}.data", tensor.data, spec.datatype)
    if array.shape != tensor.shape:
        if array.size != count or (array.ndim != 1 and count):
            raise InvalidError(
                f"{field}.data",
                f"values of shape {list(array.shape)}",
                f"send {count} values, flat or nested as the shape {list(tensor.shape)} says",
            )
        array = array.reshape(tensor.shape)
    return array


def from_values(field: str, values: Any, datatype: DataType) -> Array:
    """Return plain (nested) values as an array of that datatype; raise InvalidError if one isn't.

    The shape is that of the nesting.
    """
    dtype = DTYPES[datatype]
    if dtype.kind == "O":
        return _checked(field, values, dtype, str, "send strings")
    try:
        array = np.array(values)
    except (ValueError, OverflowError) as error:
        raise InvalidError(field, values, "nest evenly: all rows of the same length") from error
    if dtype.kind == "b":
        if array.size and array.dtype.kind != "b":
            raise InvalidError(field, values, "send true or false")
        return array.astype(dtype)
    if dtype.kind == "f":
        return _floats(field, values, array, dtype)
    return _integers(field, values, array, dtype)


def conform(signature: Signature, arrays: Mapping[str, Any]) -> Arrays:
    """Return arrays as the model takes them; raise InvalidError naming the one that does not fit.

    A type is widened or narrowed within its kind, and integers become floats where the model takes
    these; a missing batch dimension is added.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    require_names(arrays, specs)
    return {name: _conform(spec, arrays[name]) for name, spec in specs.items()}


def conform_outputs(signature: Signature, arrays: Mapping[str, Array]) -> Arrays:
    """Return what a script gave as its signature has it; raise ModelError naming what differs.

    Types are widened or narrowed within their kind, as for inputs; shapes must fit as they are.
    """
    specs = {spec.name: spec for spec in signature.outputs}
    if set(arrays) != set(specs):
        raise ModelError(
            f"run gave outputs {_listed(arrays) or 'none'}: the signature has {_listed(specs)}"
        )
    return {name: _conform_output(spec, arrays[name]) for name, spec in specs.items()}


def _conform_output(spec: TensorSpec, array: Array) -> Array:
    if array.ndim != len(spec.shape):
        raise ModelError(
            f"run gave {spec.name} in shape {list(array.shape)}: the signature has"
            f" {list(spec.shape)}"
        )
    try:
        return _conform(spec, array)
    except InvalidError as error:
        raise ModelError(
            f"run gave {spec.name} as {array.dtype}{list(array.shape)}: the signature has"
            f" {spec.datatype}{list(spec.shape)}"
        ) from error


def require_names(given: Sequence[str] | Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise InvalidError unless the inputs given are, each once, the inputs wanted."""
    for name in given:
        if name not in wanted:
            raise InvalidError("inputs", name, f"the model takes {_listed(wanted)}")
    if len(given) != len(wanted) or len(set(given)) != len(given):
        names = list(given)
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InvalidError("inputs", twice[0], "send each input once")
        missing = [name for name in wanted if name not in names]
        raise InvalidError("inputs", names, f"send {_listed(missing)} too")


def require_shape(field: str, shape: tuple[int, ...], spec: TensorSpec) -> None:
    """Raise InvalidError unless a shape is one that the model takes."""
    # A plain loop: this is on the way of every request.
    if len(shape) == len(spec.shape) <= MAX_DIMENSIONS:
        for size, wanted in zip(shape, spec.shape, strict=True):
            if not 0 <= size <= MAX_ELEMENTS or (wanted not in (size, -1)):
                break
        else:
            return
    fix = f"the model takes {list(spec.shape)}"
    if max(shape, default=0) > MAX_ELEMENTS:
        fix = f"send at most {MAX_ELEMENTS} values"
    raise InvalidError(field, list(shape), fix)


def encode(name: str, array: Array) -> TensorOut:
    """Return an output as it goes into an answer; raise ModelError for a type it cannot carry."""
    return TensorOut(
        name=name, datatype=datatype_of(name, array), shape=array.shape, data=array.ravel().tolist()
    )


def datatype_of(name: str, array: Array) -> DataType:
    """Return the protocol's name of an array's type; raise ModelError if it has none."""
    if array.dtype.kind in "US":
        return "BYTES"
    datatype = DATATYPES.get(array.dtype)
    if datatype is None:
        raise ModelError(f"output {name} is {array.dtype}: give one of {', '.join(DTYPES)}")
    return datatype


def zeros(signature: Signature) -> Arrays:
    """Return inputs that fit the signature: zeros or empty strings, 1 wherever any size fits."""
    return {
        spec.name: np.full(
            tuple(max(size, 1) if size < 0 else size for size in spec.shape),
            "" if spec.datatype == "BYTES" else 0,
            dtype=DTYPES[spec.datatype],
        )
        for spec in signature.inputs
    }


def _floats(field: str, values: Any, array: Array, dtype: np.dtype[Any]) -> Array:
    if array.dtype.kind not in "fiu":
        # Nulls, integers beyond 64 bits, or what is no number at all.
        number: tuple[type, ...] = (float, int, type(None))
        array = _checked(field, values, np.dtype(np.object_), number, "send numbers or null")
        try:
            array = array.astype(np.float64)
        except OverflowError as error:
            raise InvalidError(field, values, f"send numbers within {dtype}") from error
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if not np.isfinite(cast).all() and (np.isinf(cast) & np.isfinite(array)).any():
        raise InvalidError(field, values, f"send numbers within {dtype}")
    return cast


def _integers(field: str, values: Any, array: Array, dtype: np.dtype[Any]) -> Array:
    fix = f"send integers within {dtype}"
    if array.size and array.dtype.kind not in "iu":
        # Python integers on both sides of 2**63 meet as floats: look at the values themselves.
        array = _checked(field, values, np.dtype(np.object_), int, fix)
    limits = np.iinfo(dtype)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise InvalidError(field, values, fix)
    return array.astype(dtype)


def _checked(
    field: str, values: Any, dtype: np.dtype[Any], kinds: type | tuple[type, ...], fix: str
) -> Array:
    """Return values as objects; raise InvalidError unless all are of these kinds (bool is none)."""
    try:
        array = np.array(values, dtype=dtype)
    except ValueError as error:
        raise InvalidError(field, values, "nest evenly: all rows of the same length") from error
    for value in array.flat:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise InvalidError(field, value, fix)
    return array


def _conform(spec: TensorSpec, value: Any) -> Array:
    field = f"inputs[{spec.name}]"
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidError(field, value, "give an array") from error
    dtype = DTYPES[spec.datatype]
    if array.ndim == len(spec.shape) - 1 and spec.shape[0] in {-1, 1}:
        array = array[np.newaxis]
    require_shape(f"{field}.shape", array.shape, spec)
    if array.dtype == dtype:
        return array
    if spec.datatype == "BYTES":
        if array.dtype.kind != "U":
            raise InvalidError(f"{field}.datatype", str(array.dtype), "the model takes strings")
        return array.astype(dtype)
    if array.dtype.kind in "iu" and dtype.kind in "iu":
        return _integers(field, value, array, dtype)
    if not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise InvalidError(
            f"{field}.datatype", str(array.dtype), f"the model takes {spec.datatype}"
        )
    return array.astype(dtype)


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in names)
