"""A large request's JSON, read with simdjson: numbers go from text to an array without a list.

What it gives is what questions.read gives, or nothing: whatever is not plainly right (nulls, texts,
uneven rows, keys twice, anything that simdjson does not like) is read by that instead, which has
the last word and the words for errors.
"""

import codecs
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import simdjson

from runtime.bundle.index import TensorSpec
from runtime.errors import InvalidError
from runtime.inference.tensors import DTYPES, Array, Arrays
from runtime.serving.rest import numbers, questions
from runtime.serving.rest.messages import InferRequest
from runtime.serving.rest.questions import Question

_BUFFERS = {"f": ("d", np.dtype(np.float64)), "i": ("i", np.dtype(np.int64))}
_UNSIGNED = ("u", np.dtype(np.uint64))


class _OddError(Exception):
    """It is not plainly right."""


_NOT_PLAIN = (
    _OddError,
    InvalidError,
    AttributeError,
    ValueError,
    TypeError,
    RuntimeError,
    KeyError,
    IndexError,
)


class Reader:
    """Reads one request after the other; what it needed for one serves the next."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()

    def read(self, body: bytes, specs: Mapping[str, TensorSpec]) -> Question:
        """Return what a request asks; raise InvalidError as questions.read does."""
        try:
            return _plain(self._parser.parse(body), body, specs)
        except _NOT_PLAIN:
            # The error holds on to the document, and the parser will have no other beside it.
            self._parser = simdjson.Parser()
        return questions.read(body, None, specs)


def _plain(document: Any, body: bytes, specs: Mapping[str, TensorSpec]) -> Question:
    if body.startswith(codecs.BOM_UTF8):
        raise _OddError
    whole = _skeleton(document, "inputs")
    whole["inputs"] = [_skeleton(tensor, "data") for tensor in document["inputs"]]
    request = msgspec.convert(whole, InferRequest)
    brackets = msgspec.json.encode(whole).count(b"[")
    inputs: Arrays = {}
    for tensor, given in zip(request.inputs, document["inputs"], strict=True):
        spec = questions.checked(tensor, specs, inputs)
        if tensor.parameters and "binary_data_size" in tensor.parameters:
            raise _OddError
        inputs[tensor.name], own = _array(tensor.name, given["data"], tensor.shape, spec)
        brackets += own
    # A list in place of a number would go unseen: simdjson flattens what is nested.
    seen = np.count_nonzero(np.frombuffer(body, np.uint8) == ord("["))
    if len(inputs) != len(specs) or seen != brackets:
        raise _OddError
    return questions.question(request, inputs)


def _skeleton(proxy: Any, but: str) -> dict[str, Any]:
    """Return an object without one of its values; each key must be there once."""
    keys = list(proxy.keys())
    if len(set(keys)) != len(keys):
        raise _OddError
    return {key: _python(proxy[key]) for key in keys if key != but}


def _python(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _array(name: str, data: Any, shape: tuple[int, ...], spec: TensorSpec) -> tuple[Array, int]:
    """Return a tensor and how many brackets its values have."""
    count = numbers.count_of(name, shape, spec)
    dtype = DTYPES[spec.datatype]
    kind, wire = (
        _UNSIGNED if dtype == _UNSIGNED[1] else _BUFFERS["i" if dtype.kind == "u" else dtype.kind]
    )
    flat = np.frombuffer(data.as_buffer(of_type=kind), wire)
    brackets = 1 if len(data) == count else _brackets(data, shape)
    if flat.size != count or not count:
        raise _OddError
    return _narrowed(flat, dtype).reshape(shape), brackets


def _brackets(rows: Any, shape: Sequence[int]) -> int:
    """Return how many brackets rows have that are nested as their shape says."""
    if len(rows) != shape[0]:
        raise _OddError
    if len(shape) == 1:
        return 1
    return 1 + sum(_brackets(row, shape[1:]) for row in rows)


def _narrowed(flat: Array, dtype: np.dtype[Any]) -> Array:
    if flat.dtype == dtype:
        return flat.copy()
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            cast = flat.astype(dtype)
        if not np.isfinite(cast).all():
            raise _OddError
        return cast
    limits = np.iinfo(dtype)
    if flat.min() < limits.min or flat.max() > limits.max:
        raise _OddError
    return flat.astype(dtype)
