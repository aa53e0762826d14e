"""Which other files an ONNX file needs: the `external_data` of its tensors.

The file is protobuf; only the way to each tensor is walked, weights are skipped. Field numbers are
those of onnx.proto. A file that is no ONNX, or broken, has no locations here: onnxruntime says what
is wrong with it.
"""

import mmap
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from runtime.bundle.protobuf import LENGTH, OddError, Walker
from runtime.errors import InvalidError

MAX_DEPTH = 64
"""Subgraphs within subgraphs."""
MAX_LOCATIONS = 10_000

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
            # No end to the fields: a location must not hide behind a million others.
            walker = Walker(view, fields_left=sys.maxsize)
            for location in _walk(walker, 0, len(view), "model", MAX_DEPTH):
                found[location] = None
                if len(found) > MAX_LOCATIONS:
                    raise InvalidError(
                        "model", model.name, f"it names more than {MAX_LOCATIONS} files"
                    )
        except OddError:
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


def _walk(walker: Walker, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    """Yield the locations in a message that lies between two places."""
    if depth < 0:
        raise InvalidError("model", message, f"its graphs nest deeper than {MAX_DEPTH}")
    ways = _WAYS[message]
    for field in walker.fields(start, end):
        inner = ways.get(field.number) if field.kind == LENGTH else None
        if inner == "entry":
            yield from _location(walker, field.start, field.end)
        elif inner is not None:
            yield from _walk(walker, field.start, field.end, inner, depth - (inner == "graph"))


def _location(walker: Walker, start: int, end: int) -> Iterator[str]:
    entry = {
        field.number: bytes(walker.data[field.start : field.end])
        for field in walker.fields(start, end)
        if field.kind == LENGTH
    }
    if entry.get(_KEY) == b"location":
        try:
            yield entry.get(_VALUE, b"").decode()
        except UnicodeDecodeError as error:
            raise InvalidError("model", entry[_VALUE], "name external data in UTF-8") from error
