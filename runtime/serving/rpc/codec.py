"""Tensors between gRPC's messages and numpy.

Values come in one of two forms, and the answer goes in the form of the request:

    raw     every tensor's bytes in raw_input_contents, in the order of the inputs: inference.raw
    typed   every tensor's values in its own `contents`, in the list that its datatype has

FP16 has no list, so it is only raw; an answer that holds one is raw as a whole. Lists of BOOL, FP32
and FP64 lie on the wire as numpy has them, so they are taken from there and put there whole; those
of integers pass through Python one by one, some 0.2 µs each.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from runtime.bundle.index import TensorSpec
from runtime.errors import InvalidError
from runtime.inference import raw, tensors
from runtime.inference.tensors import DTYPES, Array, Arrays
from runtime.serving.protos.open_inference_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)
from runtime.serving.rpc import plain

_Output = ModelInferResponse.InferOutputTensor
_Input = ModelInferRequest.InferInputTensor

MAX_NAMES = 1024
"""Inputs and outputs that a request may name."""


class _Form(NamedTuple):
    """Where the values of a datatype lie, and as what they are read."""

    field: str
    wire: np.dtype[Any]
    tag: int | None
    """The byte before the values, where they lie on the wire as in an array."""


def _form(field: str, wire: type, *, packed: bool = False) -> _Form:
    number = InferTensorContents.DESCRIPTOR.fields_by_name[field].number
    return _Form(field, np.dtype(wire), number << 3 | _LENGTH_DELIMITED if packed else None)


_LENGTH_DELIMITED = 2
"""Protobuf's number for values behind their length."""

FORMS: dict[str, _Form] = {
    "BOOL": _form("bool_contents", np.bool_, packed=True),
    "UINT8": _form("uint_contents", np.uint32),
    "UINT16": _form("uint_contents", np.uint32),
    "UINT32": _form("uint_contents", np.uint32),
    "UINT64": _form("uint64_contents", np.uint64),
    "INT8": _form("int_contents", np.int32),
    "INT16": _form("int_contents", np.int32),
    "INT32": _form("int_contents", np.int32),
    "INT64": _form("int64_contents", np.int64),
    "FP32": _form("fp32_contents", np.float32, packed=True),
    "FP64": _form("fp64_contents", np.float64, packed=True),
    "BYTES": _form("bytes_contents", np.object_),
}


def decode(request: ModelInferRequest, specs: Mapping[str, TensorSpec]) -> Arrays:
    """Return a request's inputs as the model takes them; raise InvalidError naming what is wrong.

    Arrays that came raw are views of the request, not to be written to.
    """
    given = request.inputs
    contents = request.raw_input_contents
    if len(given) > MAX_NAMES:
        raise InvalidError("inputs", f"{len(given)} inputs", f"send at most {MAX_NAMES}")
    if contents and len(contents) != len(given):
        raise InvalidError(
            "raw_input_contents",
            f"{len(contents)} entries",
            f"send one for each of the {len(given)} inputs, or none and their `contents`",
        )
    arrays: Arrays = {}
    for number, tensor in enumerate(given):
        name = tensor.name
        spec = specs.get(name)
        if spec is None or name in arrays:
            break
        data = contents[number] if contents else None
        arrays[name] = _decode(tensor, spec, data)
    if len(arrays) != len(specs) or len(given) != len(specs):
        tensors.require_names([tensor.name for tensor in given], specs)
    return arrays


def wanted(request: ModelInferRequest) -> list[str] | None:
    """Return the outputs that a request names, None for all; raise InvalidError if it asks more."""
    outputs = request.outputs
    if not outputs:
        return None
    if len(outputs) > MAX_NAMES:
        raise InvalidError("outputs", f"{len(outputs)} outputs", f"ask for at most {MAX_NAMES}")
    for output in outputs:
        if output.parameters:
            _require_plain_output(output)
    return [output.name for output in outputs]


def encode(
    name: str, version: str, request: ModelInferRequest, outputs: Arrays
) -> ModelInferResponse:
    """Return the answer to a request; raise ModelError for an output that it cannot carry."""
    as_raw = bool(request.raw_input_contents) or not request.inputs
    heads = []
    for output, array in outputs.items():
        datatype = tensors.datatype_of(output, array)
        as_raw = as_raw or datatype not in FORMS
        heads.append(_Output(name=output, datatype=datatype, shape=array.shape))
    if as_raw:
        return ModelInferResponse(
            model_name=name,
            model_version=version,
            id=request.id,
            outputs=heads,
            raw_output_contents=[raw.encode(array) for array in outputs.values()],
        )
    for head, array in zip(heads, outputs.values(), strict=True):
        _fill(head.contents, FORMS[head.datatype], array)
    return ModelInferResponse(model_name=name, model_version=version, id=request.id, outputs=heads)


def _decode(tensor: _Input, spec: TensorSpec, data: bytes | None) -> Array:
    field = f"inputs[{spec.name}]"
    if tensor.datatype != spec.datatype:
        raise InvalidError(f"{field}.datatype", tensor.datatype, f"the model takes {spec.datatype}")
    if tensor.parameters and "shared_memory_region" in tensor.parameters:
        raise InvalidError(
            f"{field}.parameters", "shared_memory_region", "shared memory is not taken: send bytes"
        )
    shape = tuple(tensor.shape)
    if data is None:
        return _decode_typed(field, tensor.contents, shape, spec)
    if tensor.HasField("contents"):
        raise InvalidError(f"{field}.contents", "values", "send raw bytes or values, not both")
    return raw.decode(field, data, shape, spec)


def _decode_typed(
    field: str, contents: InferTensorContents, shape: tuple[int, ...], spec: TensorSpec
) -> Array:
    tensors.require_shape(f"{field}.shape", shape, spec)
    form = FORMS.get(spec.datatype)
    if form is None:
        raise InvalidError(
            f"{field}.contents", spec.datatype, "it has no values of its own: send raw bytes"
        )
    for other, _ in contents.ListFields():
        if other.name != form.field:
            raise InvalidError(
                f"{field}.contents", other.name, f"{spec.datatype} goes in {form.field}"
            )
    values = getattr(contents, form.field)
    count = math.prod(shape)
    if len(values) != count:
        raise InvalidError(
            f"{field}.contents.{form.field}",
            f"{len(values)} values",
            f"send {count}, as the shape {list(shape)} says",
        )
    array = _packed(contents, count, form)
    if array is None:
        array = _array(field, values, form, spec)
    return array.reshape(shape)


def _packed(contents: InferTensorContents, count: int, form: _Form) -> Array | None:
    """Return values as they lie on the wire; None if they cannot be taken from there."""
    if form.tag is None or not count:
        return None
    data = contents.SerializeToString()
    head = plain.tagged(form.tag, count * form.wire.itemsize)
    # A field that we do not know may lie beside them.
    if not data.startswith(head) or len(data) != len(head) + count * form.wire.itemsize:
        return None
    return np.frombuffer(data, form.wire, offset=len(head))


def _array(field: str, values: Any, form: _Form, spec: TensorSpec) -> Array:
    dtype = DTYPES[spec.datatype]
    if dtype.kind == "O":
        texts = np.empty(len(values), dtype)
        for number, value in enumerate(values):
            texts[number] = raw.text(field, value)
        return texts
    array = np.fromiter(values, form.wire, len(values))
    if form.wire == dtype:
        return array
    limits = np.iinfo(dtype)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise InvalidError(
            f"{field}.contents.{form.field}",
            f"values from {array.min()} to {array.max()}",
            f"send integers within {dtype}",
        )
    return array.astype(dtype)


def _fill(contents: InferTensorContents, form: _Form, array: Array) -> None:
    if form.tag is not None:
        contents.MergeFromString(plain.tagged(form.tag, array.nbytes) + array.tobytes())
        return
    values: list[Any] = array.ravel().tolist()
    if form.field == "bytes_contents":
        values = [raw.as_bytes(value) for value in values]
    getattr(contents, form.field).extend(values)


def _require_plain_output(output: ModelInferRequest.InferRequestedOutputTensor) -> None:
    field = f"outputs[{output.name}].parameters"
    for parameter, what in (
        ("classification", "classes are not made here: take the values"),
        ("shared_memory_region", "shared memory is not given: take bytes"),
    ):
        if parameter in output.parameters:
            raise InvalidError(field, parameter, what)
