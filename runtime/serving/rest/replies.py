"""What a model gave, as the bytes of an answer: JSON, or JSON with tensors' bytes behind it."""

import msgspec
import numpy as np

from runtime.errors import ModelError
from runtime.inference import raw, tensors
from runtime.inference.tensors import Array, Arrays
from runtime.serving.rest.messages import InferResponse, TensorOut
from runtime.serving.rest.questions import HEADER, Question
from runtime.serving.served import Served
from runtime.serving.wire.answers import JSON, Answer, Piece

SMALL_BYTES = 16 * 1024
"""Arrays up to this size are copied into an answer; larger ones go out as they lie."""
_ENCODE = msgspec.json.Encoder().encode
_BINARY = b"content-type: application/octet-stream\r\n" + HEADER.lower().encode() + b": %d\r\n"


def write(served: Served, asked: Question, outputs: Arrays, fields: bytes = b"") -> Answer:
    """Return the answer; raise ModelError for an output that it cannot carry."""
    if asked.binary is False:
        return Answer(200, JSON + fields, body_of(served, asked, outputs))
    told: list[TensorOut] = []
    pieces: list[Piece] = []
    for name, array in outputs.items():
        if asked.as_binary(name):
            datatype = tensors.datatype_of(name, array)
            piece = _bytes(array)
            size = {"binary_data_size": len(piece)}
            told.append(TensorOut(name, datatype, array.shape, parameters=size))
            pieces.append(piece)
        else:
            told.append(tensor(name, array))
    head = _ENCODE(InferResponse(served.name, served.version, told, asked.id))
    if not pieces:
        return Answer(200, JSON + fields, head)
    return Answer(200, _BINARY % len(head) + fields, head, *pieces)


def body_of(served: Served, asked: Question, outputs: Arrays) -> bytes:
    """Return the whole answer in JSON."""
    told = [tensor(name, array) for name, array in outputs.items()]
    return _ENCODE(InferResponse(served.name, served.version, told, asked.id))


def tensor(name: str, array: Array) -> TensorOut:
    """Return an output with its values; a missing number, and an infinity, is null."""
    datatype = tensors.datatype_of(name, array)
    values = array.ravel().tolist()
    if datatype == "BYTES":
        values = [value if isinstance(value, str) else _text(name, value) for value in values]
    return TensorOut(name, datatype, array.shape, values)


def _text(name: str, value: object) -> str:
    if not isinstance(value, bytes):
        raise ModelError(f"output {name} has {type(value).__name__}: give str or bytes")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ModelError(
            f"output {name} has bytes that are no text: ask for it with binary_data"
        ) from error


def _bytes(array: Array) -> Piece:
    if array.nbytes <= SMALL_BYTES or array.dtype.kind in "OUS":
        return raw.encode(array)
    return memoryview(np.ascontiguousarray(array).data).cast("B")
