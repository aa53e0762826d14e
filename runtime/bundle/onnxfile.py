"""Which other files an ONNX file needs: the `external_data` of its tensors.

The file is protobuf; only the way to each tensor is walked, weights are skipped. Field numbers are
those of onnx.proto. A file that is no ONNX, or broken, has no locations here: onnxruntime says what
is wrong with it.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from runtime.errors import InvalidError

MAX_DEPTH = 64
"""Subgraphs within subgraphs."""
MAX_LOCATIONS = 10_000

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_VARINT_BYTES = 10

# What of each message leads to a tensor: message -> field number -> message.
_WAYS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2


class _BrokenError(Exception):
    """The bytes are no protobuf."""


def external_data(model: Path, path: str) -> tuple[str, ...]:
    """Return the paths in the bundle of the files that the model at `path` needs beside it.

    Raises InvalidError if one is absolute, leaves the bundle or is not plain.
    """
    folder = PurePosixPath(path).parent
    return tuple(str(folder / _inside(location)) for location in locations(model))


def locations(model: Path) -> tuple[str, ...]:
    """Return the locations that a model's tensors name, each once, as they stand there."""
    if not model.stat().st_size:
        return ()
    with (
        model.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        found: dict[str, None] = {}
        try:
            for location in _walk(view, 0, len(view), "model", MAX_DEPTH):
                found[location] = None
                if len(found) > MAX_LOCATIONS:
                    raise InvalidError(
                        "model", model.name, f"it names more than {MAX_LOCATIONS} files"
                    )
        except _BrokenError:
            return ()
    return tuple(sorted(found))


def _inside(location: str) -> PurePosixPath:
    path = PurePosixPath(location)
    parts = [part for part in location.split("/") if part != "."]
    if path.is_absolute() or ".." in parts or "\\" in location or not any(parts):
        raise InvalidError(
            "model",
            f"external data {location}",
            "weights must lie beside the model or below: export it with a plain file name",
        )
    return path


def _walk(view: memoryview, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    """Yield the locations in a message that lies at view[start:end]."""
    if depth < 0:
        raise InvalidError("model", message, f"its graphs nest deeper than {MAX_DEPTH}")
    ways = _WAYS[message]
    for number, first, last in _fields(view, start, end):
        inner = ways.get(number)
        if inner == "entry":
            yield from _location(view, first, last)
        elif inner is not None:
            yield from _walk(view, first, last, inner, depth - (inner == "graph"))


def _location(view: memoryview, start: int, end: int) -> Iterator[str]:
    entry = {number: bytes(view[first:last]) for number, first, last in _fields(view, start, end)}
    if entry.get(_KEY) == b"location":
        try:
            yield entry.get(_VALUE, b"").decode()
        except UnicodeDecodeError as error:
            raise InvalidError("model", entry[_VALUE], "name external data in UTF-8") from error


def _fields(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each field with a length; skip the others."""
    at = start
    while at < end:
        tag, at = _varint(view, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(view, at, end)
        elif kind == _BYTES:
            length, at = _varint(view, at, end)
            if length > end - at:
                raise _BrokenError
            yield number, at, at + length
            at += length
        elif kind in _WIDTHS:
            at += _WIDTHS[kind]
        else:
            raise _BrokenError


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = 0
    for place in range(_VARINT_BYTES):
        if at >= end:
            raise _BrokenError
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says "more follows"
            return value, at
    raise _BrokenError
