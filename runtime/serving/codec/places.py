"""Files in memory that two processes see: made here, handed over by descriptor."""

import mmap
import os
from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.inference.tensors import DTYPES, Array, Arrays, datatype_of
from runtime.serving.codec.frames import ALIGNMENT, Placed, page_after

PAGE = mmap.ALLOCATIONGRANULARITY


class SharedBody:
    """A large body that lies where the codec's process will see it."""

    def __init__(self, length: int) -> None:
        """Make room; a page takes memory once something is put there."""
        self.fd = -1
        self.length = length
        self._got = 0
        self.fd = os.memfd_create("packhorse-body", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, max(1, length))  # nothing cannot be mapped
        self._view = memoryview(mmap.mmap(self.fd, max(1, length)))[:length]

    @property
    def view(self) -> memoryview:
        """What has come of it."""
        return self._view[: self._got]

    def room(self) -> memoryview:
        """Return where the next bytes shall go."""
        return self._view[self._got :]

    def filled(self, count: int) -> None:
        """Say that so many bytes were put there."""
        self._got += count

    def __del__(self) -> None:
        """Let go of the file; whoever maps it still has it."""
        if self.fd >= 0:
            os.close(self.fd)


def mapped(fd: int, start: int, stop: int) -> mmap.mmap:
    """Return a part of a file; it begins at a page. What is read of it is there at once."""
    if start == stop:
        return mmap.mmap(-1, PAGE)  # nothing cannot be mapped
    flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    return mmap.mmap(fd, stop - start, flags=flags, offset=start)


def place(fd: int, start: int, arrays: Arrays) -> tuple[Placed, ...]:
    """Put arrays into a file from `start` on, a page's begin, and return where they are."""
    packed = {name: _bytes(name, array) for name, array in arrays.items()}
    told: list[Placed] = []
    at = start
    for name, data in packed.items():
        array = arrays[name]
        told.append(Placed(name, datatype_of(name, array), array.shape, at, len(data)))
        at = page_after(at + len(data), ALIGNMENT)
    if at > start:
        os.ftruncate(fd, at)
        with mmap.mmap(fd, at - start, offset=start) as file:
            for each, data in zip(told, packed.values(), strict=True):
                file[each.start - start : each.start - start + each.size] = data
    return tuple(told)


def taken(part: mmap.mmap, placed: Sequence[Placed], start: int) -> Arrays:
    """Return arrays that lie in a part of a file which begins at `start`: numbers as views."""
    arrays: Arrays = {}
    for each in placed:
        at = each.start - start
        dtype = DTYPES[each.datatype]
        if dtype.kind != "O":
            arrays[each.name] = np.ndarray(each.shape, dtype, part, at)
            continue
        values = msgspec.msgpack.decode(part[at : at + each.size])
        texts = np.empty(len(values), dtype)
        texts[:] = values
        arrays[each.name] = texts.reshape(each.shape)
    return arrays


def _bytes(name: str, array: Array) -> bytes | memoryview:
    if datatype_of(name, array) == "BYTES":
        return msgspec.msgpack.encode(array.ravel().tolist())
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
