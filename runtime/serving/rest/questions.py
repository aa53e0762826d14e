"""An inference request's bytes, read: JSON, or JSON with the tensors' bytes behind it.

    {"inputs": [{"name": …, "data": […]}, {"name": …, "parameters": {"binary_data_size": 8}}]}
    ........                                     └── json_bytes end here: eight bytes follow

Numbers that are missing are `null` both ways: the tokens NaN and Infinity, which some writers put
there, are no JSON and are refused by name.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from runtime.bundle.index import TensorSpec
from runtime.errors import InvalidError
from runtime.inference import raw, tensors
from runtime.inference.tensors import DTYPES, Array, Arrays
from runtime.serving.dataplane import MAX_ID_CHARS
from runtime.serving.rest import numbers
from runtime.serving.rest.messages import InferRequest, OutputRequest, TensorIn

HEADER = "Inference-Header-Content-Length"
MAX_OUTPUTS = 1024
_DECODER = msgspec.json.Decoder(InferRequest)
_PLACE = re.compile(r" \(byte (\d+)\)$")
_NO_NUMBER = re.compile(rb"-?(NaN|Infinity|Inf|nan|inf)\b")
_SEEN_BYTES = 16
_REFUSED = {
    "classification": "classes are not made here: take the values",
    "shared_memory_region": "shared memory is not taken: send bytes",
}


class Question:
    """What a request asks."""

    __slots__ = ("binary", "id", "inputs", "timeout_s", "wanted")

    def __init__(self, inputs: Arrays, request_id: str | None) -> None:
        self.inputs, self.id = inputs, request_id
        self.wanted: list[str] | None = None
        """The outputs asked for; None: all."""
        self.binary: bool | dict[str, bool] = False
        """Which outputs shall go as bytes: all, none, or by name."""
        self.timeout_s: float | None = None

    def as_binary(self, output: str) -> bool:
        """Say whether an output shall go as bytes."""
        return self.binary if isinstance(self.binary, bool) else self.binary.get(output, False)


def read(
    body: bytes | memoryview, json_bytes: int | None, specs: Mapping[str, TensorSpec]
) -> Question:
    """Return what a whole body asks of a model; raise InvalidError naming what is wrong.

    `json_bytes` is the value of Inference-Header-Content-Length, None without one.
    """
    if json_bytes is None:
        request = decode(body)
        # A word that holds neither says that no value is one.
        bools = isinstance(body, memoryview) or b"true" in body or b"false" in body
        return question(request, _arrays(request, specs, None, bools=bools))
    if json_bytes > len(body):
        raise InvalidError(HEADER, json_bytes, f"the body has {len(body)} bytes")
    request = decode(body[:json_bytes])
    tail = memoryview(body)[json_bytes:]
    return question(request, _arrays(request, specs, tail, bools=True))


def decode(body: bytes | memoryview) -> InferRequest:
    """Return a request's JSON; raise InvalidError saying where it is none."""
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(bytes(body), str(error)) from error
    except RecursionError as error:
        raise InvalidError("request", "lists in lists", "it is nested too deeply") from error


def question(request: InferRequest, inputs: Arrays) -> Question:
    """Return what a request asks beside its inputs; raise InvalidError for what is not done."""
    if request.id is not None and len(request.id) > MAX_ID_CHARS:
        raise InvalidError("id", request.id, f"use at most {MAX_ID_CHARS} characters")
    asked = Question(inputs, request.id)
    if request.parameters:
        asked.timeout_s = _timeout(request.parameters)
        asked.binary = _flag(request.parameters, "parameters", "binary_data_output") or False
    if request.outputs:
        if len(request.outputs) > MAX_OUTPUTS:
            fix = f"ask for at most {MAX_OUTPUTS}"
            raise InvalidError("outputs", f"{len(request.outputs)} outputs", fix)
        default = asked.binary is True
        asked.binary = {each.name: _chosen(each, default) for each in request.outputs}
        asked.wanted = list(asked.binary)
    return asked


def _arrays(
    request: InferRequest, specs: Mapping[str, TensorSpec], tail: memoryview | None, *, bools: bool
) -> Arrays:
    inputs: Arrays = {}
    at = 0
    for tensor in request.inputs:
        spec = checked(tensor, specs, inputs)
        values = tensor.data
        size = _size(tensor)
        if tail is not None and size is not None:
            inputs[tensor.name] = _from_bytes(tensor, spec, tail[at : at + size], size)
            at += size
        elif values is not UNSET:
            inputs[tensor.name] = numbers.array_of(
                tensor.name, values, tensor.shape, spec, bools=bools
            )
        else:
            fix = f"send values, or bytes behind the JSON and {HEADER}"
            raise InvalidError(f"inputs[{tensor.name}].data", None, fix)
    if len(inputs) != len(specs):
        tensors.require_names(list(inputs), specs)
    if tail is not None and at != len(tail):
        fix = f"the inputs' binary_data_size make {at}"
        raise InvalidError("body", f"{len(tail)} bytes behind the JSON", fix)
    return inputs


def checked(tensor: TensorIn, specs: Mapping[str, TensorSpec], before: Arrays) -> TensorSpec:
    """Return what the model takes in a tensor's place; raise InvalidError if it is not this."""
    name = tensor.name
    spec = specs.get(name)
    if spec is None or name in before:
        tensors.require_names([*before, name], specs)
    assert spec is not None
    if tensor.datatype != spec.datatype:
        fix = f"the model takes {spec.datatype}"
        if tensor.datatype not in DTYPES:
            fix += f"; known here are {', '.join(DTYPES)}"
        raise InvalidError(f"inputs[{name}].datatype", tensor.datatype, fix)
    if tensor.parameters:
        _refuse(f"inputs[{name}].parameters", tensor.parameters)
    return spec


def _from_bytes(tensor: TensorIn, spec: TensorSpec, data: memoryview, size: int) -> Array:
    name, shape = tensor.name, tensor.shape
    field = f"inputs[{name}].data"
    if tensor.data is not UNSET:
        raise InvalidError(field, "values", "send values or bytes, not both")
    if len(data) != size:
        raise InvalidError(field, f"{len(data)} bytes", f"its binary_data_size is {size}")
    dtype = DTYPES[spec.datatype]
    if dtype.kind in "Ob" or size != numbers.count_of(name, shape, spec) * dtype.itemsize:
        return raw.decode(field, data, shape, spec)
    array = np.ndarray(shape, dtype, data)
    # What is not aligned would be slow or worse; what cannot be written to would surprise a script.
    return array if array.flags.aligned and not data.readonly else array.copy()


def _size(tensor: TensorIn) -> int | None:
    if not tensor.parameters:
        return None
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        field = f"inputs[{tensor.name}].parameters.binary_data_size"
        raise InvalidError(field, size, "give bytes, 0 or more")
    return size


def _chosen(output: OutputRequest, default: bool) -> bool:  # noqa: FBT001 - one of two values
    if not output.parameters:
        return default
    field = f"outputs[{output.name}].parameters"
    _refuse(field, output.parameters)
    asked = _flag(output.parameters, field, "binary_data")
    return default if asked is None else asked


def _flag(parameters: Mapping[str, Any], field: str, key: str) -> bool | None:
    value = parameters.get(key)
    if value is not None and not isinstance(value, bool):
        raise InvalidError(f"{field}.{key}", value, "say true or false")
    return value


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    value = parameters.get("timeout")
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise InvalidError("parameters.timeout", value, "give microseconds, 0 for none")
    return value / 1e6 or None


def _refuse(field: str, parameters: Mapping[str, Any]) -> None:
    for key, fix in _REFUSED.items():
        if parameters.get(key):
            raise InvalidError(f"{field}.{key}", parameters[key], fix)


def _malformed(body: bytes, text: str) -> InvalidError:
    place = _PLACE.search(text)
    if place is None:
        return InvalidError("request", body[:_SEEN_BYTES], text)
    at = int(place[1])
    around = body[max(0, at - _SEEN_BYTES) : at + _SEEN_BYTES]
    word = _NO_NUMBER.match(body, at) or _NO_NUMBER.match(body, max(0, at - 1))
    if word is not None:
        return InvalidError(
            "request",
            f"{word[0].decode()} at byte {at}",
            "it is no JSON: send null for a missing number, and no infinity",
        )
    return InvalidError("request", around, text)
