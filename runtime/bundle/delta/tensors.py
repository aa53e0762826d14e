"""Which parts of a file are tensors: by the file's own word where we know the format, else a guess.

Everything returned lies in the file, in the order of places, and no two overlap: what follows can
rely on it, whatever the file claims.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from runtime.bundle.delta import archivemap, detect, ggufmap, onnxmap, safetensorsmap
from runtime.bundle.delta.longest import Bytes
from runtime.bundle.delta.plan import TensorExtent

_GUESS_BYTES = 4 * detect.BLOCK_BYTES
"""Shorter stretches that no map describes are not searched for numbers."""


def load(path: Path) -> Bytes:
    """Return a file's bytes, mapped, not read."""
    if path.stat().st_size == 0:
        return np.zeros(0, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, "r"))


def find(data: Bytes, known: Iterable[TensorExtent] | None = None) -> tuple[TensorExtent, ...]:
    """Return the tensors of a file; `known` are those that another file says lie in it."""
    described = _describe(data) if known is None else tuple(known)
    sound = list(_sound(described, data.size))
    guessed = [
        extent
        for start, end in _gaps(sound, data.size)
        if end - start >= _GUESS_BYTES
        for extent in detect.extents(data, start, end)
    ]
    return tuple(sorted([*sound, *guessed], key=lambda extent: extent.offset))


def find_both(
    old: Bytes,
    new: Bytes,
    old_known: Iterable[TensorExtent] | None = None,
    new_known: Iterable[TensorExtent] | None = None,
) -> tuple[tuple[TensorExtent, ...], tuple[TensorExtent, ...]]:
    """Return the tensors of two files, the older first.

    Where nothing is described and the sizes are the same, what is guessed of the new file is taken
    to hold for the old one: numbers that were tuned stay where they are.
    """
    news = find(new, new_known)
    if old.size == new.size and all(is_guess(extent) for extent in news):
        return news, news
    return find(old, old_known), news


def is_guess(extent: TensorExtent) -> bool:
    """Say if nobody described this tensor."""
    return extent.name == detect.name(extent.offset)


def external(data: Bytes) -> dict[str, tuple[TensorExtent, ...]]:
    """Return what an ONNX file says of the files beside it: location to tensors.

    Nothing if it is no ONNX file. A location is text from the file: join no path with it unchecked.
    """
    found = onnxmap.read(data.data)
    return {} if found is None else found.outside


def _describe(data: Bytes) -> tuple[TensorExtent, ...]:
    view = data.data
    for reader in (safetensorsmap.read, ggufmap.read, archivemap.read):
        found = reader(view)
        if found is not None:
            return found
    onnx = onnxmap.read(view)
    return () if onnx is None else onnx.inside


def _sound(extents: Iterable[TensorExtent], size: int) -> Iterator[TensorExtent]:
    """Yield those that lie in the file, each behind the one before."""
    behind = 0
    for extent in sorted(extents, key=lambda extent: (extent.offset, extent.length)):
        whole = extent.length > 0 and extent.length % extent.type.width == 0
        if whole and behind <= extent.offset and extent.offset + extent.length <= size:
            yield extent
            behind = extent.offset + extent.length


def _gaps(extents: Iterable[TensorExtent], size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges between tensors."""
    behind = 0
    for extent in extents:
        yield behind, extent.offset
        behind = extent.offset + extent.length
    yield behind, size
