"""What an encoder has worked out: how the new file's bytes follow from the old file's. Pure values.

A plan is a sequence of segments in the order of the new file; together they are all of its bytes.
runtime.bundle.delta.match makes plans; runtime.bundle.delta.write writes them down.
"""

import enum
from dataclasses import dataclass


class ElementType(enum.Enum):
    """What the bytes of a segment are, little-endian."""

    BYTES = "bytes"
    FP16 = "fp16"
    BF16 = "bf16"
    FP32 = "fp32"
    FP64 = "fp64"
    INT8 = "int8"
    """uint8 too: residuals are taken modulo 256."""
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"

    @property
    def width(self) -> int:
        """Bytes of one element."""
        return _WIDTHS[self]


_WIDTHS = {
    ElementType.BYTES: 1, ElementType.INT8: 1,
    ElementType.FP16: 2, ElementType.BF16: 2, ElementType.INT16: 2,
    ElementType.FP32: 4, ElementType.INT32: 4,
    ElementType.FP64: 8, ElementType.INT64: 8,
}  # fmt: skip


@dataclass(frozen=True)
class Copy:
    """The next `length` bytes are the old file's from `old_offset` on."""

    old_offset: int
    length: int


@dataclass(frozen=True)
class Change:
    """The next `length` bytes differ from the old file's from `old_offset` on, element by element.

    `length` is a multiple of the type's width; offsets need not be aligned.
    """

    old_offset: int
    length: int
    type: ElementType


@dataclass(frozen=True)
class Fresh:
    """The next `length` bytes are written whole; the type says how they are best compressed."""

    length: int
    type: ElementType = ElementType.BYTES


Segment = Copy | Change | Fresh


@dataclass(frozen=True)
class TensorExtent:
    """Where a tensor's raw bytes lie in a file."""

    name: str
    type: ElementType
    shape: tuple[int, ...]
    offset: int
    length: int
    """Bytes."""
