"""Where the tensors of a GGUF file (llama.cpp) lie: its header lists them.

Block-quantised tensors mix scales and small integers in one block; they are taken as bytes.
"""

from dataclasses import dataclass
from math import prod

from runtime.bundle.delta.plan import ElementType, TensorExtent

TYPES = {
    0: ElementType.FP32, 1: ElementType.FP16, 24: ElementType.INT8, 25: ElementType.INT16,
    26: ElementType.INT32, 27: ElementType.INT64, 28: ElementType.FP64, 30: ElementType.BF16,
}  # fmt: skip
"""ggml_type to what its bytes are; any other is a block-quantised one."""
MAX_TENSORS = 100_000
MAX_PAIRS = 100_000
MAX_DIMS = 8

_MAGIC = b"GGUF"
_VERSIONS = {2, 3}
_ALIGNMENT_KEY, _ALIGNMENT = b"general.alignment", 32
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_MAX_STRINGS = 2_000_000


class _OddError(Exception):
    """Not such a header."""


@dataclass
class _Header:
    """Reads numbers one after the other."""

    data: memoryview
    at: int
    strings_left: int = _MAX_STRINGS

    def number(self, width: int) -> int:
        if self.at + width > len(self.data):
            raise _OddError
        self.at += width
        return int.from_bytes(self.data[self.at - width : self.at], "little")

    def string(self) -> bytes:
        length = self.number(8)
        self.strings_left -= 1
        if self.at + length > len(self.data) or self.strings_left < 0:
            raise _OddError
        self.at += length
        return bytes(self.data[self.at - length : self.at])

    def skip(self, kind: int) -> None:
        """Go behind a value."""
        if kind == _STRING:
            self.string()
        elif kind == _ARRAY:
            inner, count = self.number(4), self.number(8)
            if inner == _STRING:
                for _ in range(count):
                    self.string()
            else:
                self.at += count * _width(inner)
        else:
            self.at += _width(kind)


def read(data: memoryview) -> tuple[TensorExtent, ...] | None:
    """Return where the tensors lie, in the order of places; None if this is no such file."""
    header = _Header(data, len(_MAGIC))
    try:
        if bytes(data[: len(_MAGIC)]) != _MAGIC or header.number(4) not in _VERSIONS:
            return None
        return _tensors(header)
    except _OddError:
        return None


def _tensors(header: _Header) -> tuple[TensorExtent, ...] | None:
    tensors, pairs = header.number(8), header.number(8)
    if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
        return None
    alignment = _ALIGNMENT
    for _ in range(pairs):
        key, kind = header.string(), header.number(4)
        if key == _ALIGNMENT_KEY and kind == _UINT32:
            alignment = header.number(4)
        else:
            header.skip(kind)
    listed = [_entry(header) for _ in range(tensors)]
    if alignment < 1:
        return None
    begin = -(-header.at // alignment) * alignment
    return _extents(sorted(listed, key=lambda entry: entry[3]), begin, len(header.data))


def _entry(header: _Header) -> tuple[str, tuple[int, ...], int, int]:
    """Return name, shape, type and offset of a tensor."""
    name = header.string().decode("utf-8", "replace")
    count = header.number(4)
    if count > MAX_DIMS:
        raise _OddError
    shape = tuple(header.number(8) for _ in range(count))[::-1]
    return name, shape, header.number(4), header.number(8)


def _extents(
    listed: list[tuple[str, tuple[int, ...], int, int]], begin: int, size: int
) -> tuple[TensorExtent, ...] | None:
    found = []
    ends = [*(begin + entry[3] for entry in listed), size][1:]
    for (name, shape, code, offset), limit in zip(listed, ends, strict=True):
        start = begin + offset
        kind = TYPES.get(code)
        if kind is None:  # its length is not known: it goes to the next one
            extent = TensorExtent(name, ElementType.BYTES, (limit - start,), start, limit - start)
        else:
            extent = TensorExtent(name, kind, shape, start, prod(shape) * kind.width)
        if extent.length < 0 or start + extent.length > limit:
            return None
        found.append(extent)
    return tuple(found)


def _width(kind: int) -> int:
    try:
        return _SCALAR_BYTES[kind]
    except KeyError:
        raise _OddError from None
