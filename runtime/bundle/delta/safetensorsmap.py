"""Where the tensors of a safetensors file lie: its header, as JSON, says so."""

from itertools import pairwise
from math import prod

import msgspec

from runtime.bundle.delta.plan import ElementType, TensorExtent

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
TYPES = {
    "F64": ElementType.FP64, "F32": ElementType.FP32, "F16": ElementType.FP16,
    "BF16": ElementType.BF16, "C64": ElementType.FP32, "I64": ElementType.INT64,
    "I32": ElementType.INT32, "I16": ElementType.INT16, "I8": ElementType.INT8,
    "U64": ElementType.INT64, "U32": ElementType.INT32, "U16": ElementType.INT16,
    "U8": ElementType.INT8, "BOOL": ElementType.BYTES, "F8_E4M3": ElementType.INT8,
    "F8_E5M2": ElementType.INT8, "F8_E8M0": ElementType.INT8,
}  # fmt: skip

_LENGTH_BYTES = 8
_METADATA = "__metadata__"


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read(data: memoryview) -> tuple[TensorExtent, ...] | None:
    """Return where the tensors lie, in the order of places; None if this is no such file."""
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    begin = _LENGTH_BYTES + length
    is_header = bytes(data[_LENGTH_BYTES : _LENGTH_BYTES + 1]) == b"{"
    if not is_header or length > MAX_HEADER_BYTES or begin > len(data):
        return None
    try:
        header = msgspec.json.decode(data[_LENGTH_BYTES:begin], type=dict[str, msgspec.Raw])
        entries = {
            name: msgspec.json.decode(raw, type=_Entry)
            for name, raw in header.items()
            if name != _METADATA
        }
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    found = [_extent(name, entry, begin) for name, entry in entries.items()]
    extents = sorted((extent for extent in found if extent), key=lambda extent: extent.offset)
    inside = all(
        begin <= each.offset and each.offset + each.length <= len(data) for each in extents
    )
    apart = all(one.offset + one.length <= two.offset for one, two in pairwise(extents))
    return tuple(extents) if inside and apart else None


def _extent(name: str, entry: _Entry, begin: int) -> TensorExtent | None:
    start, end = entry.data_offsets
    kind = TYPES.get(entry.dtype, ElementType.BYTES)
    length = end - start
    if start < 0 or length < 0 or length % kind.width:
        return None
    shape = tuple(entry.shape)
    if prod(shape) * kind.width != length:
        shape = (length // kind.width,)
    return TensorExtent(name, kind, shape, begin + start, length)
