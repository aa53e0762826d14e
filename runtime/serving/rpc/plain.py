"""The plainest request and its answer, taken from bytes and put into bytes without messages.

    model_name · model_version? · id? · inputs … · raw_input_contents …

Most requests have this and nothing else, and one client's differ in their id and values alone. So
what a tensor's description says is looked up by its bytes, and of the answer what does not change
is kept as bytes. A request that holds anything else, or a text twice, is not plain, and is read as
a message.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from google.protobuf.message import DecodeError

from runtime.bundle.index import TensorSpec
from runtime.errors import InvalidError
from runtime.inference import raw, tensors
from runtime.inference.tensors import Arrays
from runtime.serving.dataplane import MAX_ID_CHARS
from runtime.serving.protos.open_inference_pb2 import ModelInferRequest, ModelInferResponse

_Input = ModelInferRequest.InferInputTensor
_Output = ModelInferResponse.InferOutputTensor

_NAME, _VERSION, _ID, _INPUT, _RAW = 0x0A, 0x12, 0x1A, 0x2A, 0x3A
_RAW_OUTPUT = 0x32
"""Tags: a field's number and that its length follows."""
_MORE = 0x80
"""Of a length's byte: another one follows."""
MOST_FIELDS = 64
MAX_HEAD_BYTES = 256
KEPT = 1024
"""Descriptions that are kept."""


class Head(NamedTuple):
    """What a tensor is called and what it is."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Plain(NamedTuple):
    """A request; its fields are called as the message's."""

    model_name: str
    model_version: str
    id: str
    heads: list[Head]
    contents: list[bytes]
    """Of each tensor, in the order of the heads."""
    parameters: None = None


def read(data: bytes) -> Plain | None:
    """Return a request; None if it is not plain, or none at all."""
    texts = {_NAME: b"", _VERSION: b"", _ID: b""}
    heads: list[Head] = []
    contents: list[bytes] = []
    try:
        for tag, start, stop in _fields(data):
            if tag == _RAW:
                contents.append(data[start:stop])
            elif tag == _INPUT:
                heads.append(_head(data[start:stop]))
            elif tag in texts and not texts[tag] and stop - start <= MAX_ID_CHARS:
                texts[tag] = data[start:stop]
            else:
                return None
        if not heads or len(heads) != len(contents):
            return None
        name, version, number = (text.decode() for text in texts.values())
    except (IndexError, UnicodeDecodeError, DecodeError, _OddError):
        return None
    return Plain(name, version, number, heads, contents)


def decode(request: Plain, specs: Mapping[str, TensorSpec]) -> Arrays:
    """Return a request's inputs as rpc.codec.decode does; raise InvalidError as that does."""
    arrays: Arrays = {}
    for (name, datatype, shape), data in zip(request.heads, request.contents, strict=True):
        spec = specs.get(name)
        if spec is None or name in arrays:
            break
        field = f"inputs[{name}]"
        if datatype != spec.datatype:
            raise InvalidError(f"{field}.datatype", datatype, f"the model takes {spec.datatype}")
        arrays[name] = raw.decode(field, data, shape, spec)
    if len(arrays) != len(specs) or len(request.heads) != len(specs):
        tensors.require_names([head.name for head in request.heads], specs)
    return arrays


def encode(name: str, version: str, request: Plain, outputs: Arrays) -> bytes:
    """Return the bytes of an answer; raise ModelError for an output that it cannot carry."""
    pieces = [_names(name, version)]
    if request.id:
        text = request.id.encode()
        pieces += (tagged(_ID, len(text)), text)
    contents: list[bytes] = []
    for output, array in outputs.items():
        datatype = tensors.datatype_of(output, array)
        pieces.append(_output(output, datatype, array.shape))
        data = raw.encode(array)
        contents += (tagged(_RAW_OUTPUT, len(data)), data)
    pieces += contents
    return b"".join(pieces)


def tagged(tag: int, size: int) -> bytes:
    """Return what stands before that many bytes on the wire: the tag, and the size as a varint."""
    head = bytearray((tag,))
    while size >= _MORE:
        head.append(size & 0x7F | _MORE)
        size >>= 7
    head.append(size)
    return bytes(head)


class _OddError(Exception):
    """It says more than a plain request does."""


def _fields(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield each field's tag, and where its value begins and ends."""
    at, end, left = 0, len(data), MOST_FIELDS
    while at < end:
        tag, size = data[at], data[at + 1]
        at += 2
        if size >= _MORE:
            size, at = _length(data, at - 1)
        stop = at + size
        left -= 1
        if stop > end or left < 0 or (tag == _INPUT and size > MAX_HEAD_BYTES):
            raise _OddError
        yield tag, at, stop
        at = stop


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return a varint and where it ends; one that is longer than any message's is odd."""
    size = 0
    for shift in range(0, 35, 7):
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        if byte < _MORE:
            return size, at
    raise _OddError


@functools.lru_cache(KEPT)
def _head(data: bytes) -> Head:
    tensor = _Input.FromString(data)
    if tensor.parameters or tensor.HasField("contents"):
        raise _OddError
    return Head(tensor.name, tensor.datatype, tuple(tensor.shape))


@functools.lru_cache(KEPT)
def _names(name: str, version: str) -> bytes:
    return ModelInferResponse(model_name=name, model_version=version).SerializeToString()


@functools.lru_cache(KEPT)
def _output(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    head = _Output(name=name, datatype=datatype, shape=shape)
    return ModelInferResponse(outputs=[head]).SerializeToString()
