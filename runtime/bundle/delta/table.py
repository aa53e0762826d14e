"""A section's segments, in columns: what they are, how long, and where in the old file.

    codes     kind and element type, one byte each
    lengths   in elements, less one
    moves     for Copy and Change: how far (old offset - new offset) is from what it was before

Each column of numbers is as wide as its largest, and coded by byte planes. Unchanged layout, one
replaced range or a moved tensor all give columns of mostly zeros.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from runtime.bundle.delta import streams, symbols
from runtime.bundle.delta.format import TYPES, Cursor, damaged
from runtime.bundle.delta.plan import Change, Copy, ElementType, Segment
from runtime.bundle.delta.streams import Array, Effort

COPY: Final = 0
CHANGE: Final = 1
FRESH: Final = 2

_KIND_BITS: Final = 2
_WIDTHS: Final = np.array([kind.width for kind in TYPES], np.int64)


@dataclass(frozen=True)
class Table:
    """Segments by column; `starts` and `lengths` in bytes of the new file."""

    kinds: Array
    types: Array
    starts: Array
    lengths: Array
    olds: Array
    """Where a segment's bytes begin in the old file; 0 for a fresh one."""


def encode(segments: Sequence[Segment], start: int) -> bytes:
    """Return the columns of these segments, the first of which begins at `start`."""
    rows = [_row(segment) for segment in segments]
    kinds, types, lengths, olds = np.array(rows, np.int64).T
    starts = start + np.cumsum(lengths) - lengths
    placed = kinds != FRESH
    moves = np.diff(olds[placed] - starts[placed], prepend=0)
    codes = (kinds | types << _KIND_BITS).astype(np.uint8)
    return (
        streams.pack(codes, Effort.HARD)
        + _encode_column(lengths // _WIDTHS[types] - 1)
        + _encode_column(moves << 1 ^ moves >> 63)
    )


def _row(segment: Segment) -> tuple[int, int, int, int]:
    if isinstance(segment, Copy):
        return COPY, TYPES.index(ElementType.BYTES), segment.length, segment.old_offset
    code = TYPES.index(segment.type)
    if isinstance(segment, Change):
        return CHANGE, code, segment.length, segment.old_offset
    return FRESH, code, segment.length, 0


def _encode_column(values: Array) -> bytes:
    if len(values) == 0:
        return b""
    width = max(1, (int(values.max()).bit_length() + 7) // 8)
    rows = symbols.as_bytes(values.astype("<u8"))
    coded = (streams.pack(rows[:, place].copy(), Effort.HARD) for place in range(width))
    return bytes((width,)) + b"".join(coded)


def decode(cursor: Cursor, count: int, *, start: int, size: int, old_size: int) -> Table:
    """Return the next `count` segments, which begin at `start` in a new file of `size` bytes.

    Raises IntegrityError unless every one lies within both files.
    """
    codes = np.frombuffer(streams.unpack(cursor, count), np.uint8)
    kinds, types = codes & ((1 << _KIND_BITS) - 1), codes >> _KIND_BITS
    if (kinds > FRESH).any() or (types >= len(TYPES)).any() or types[kinds == COPY].any():
        raise damaged("known segments", "others")
    elements = _decode_column(cursor, count)
    if (elements < 0).any() or (elements >= size).any():
        raise damaged(f"segments of at most {size} bytes", "longer ones")
    lengths = (elements + 1) * _WIDTHS[types]
    # Each is at most 2^49 and there are at most 2^16 of them, so a sum of doubles finds what a
    # sum of integers could hide by running over.
    if float(lengths.sum(dtype=np.float64)) > float(size - start):
        raise damaged(f"segments of {size - start} bytes at most", "more")
    starts = start + np.cumsum(lengths) - lengths
    placed = kinds != FRESH
    folded = _decode_column(cursor, int(np.count_nonzero(placed)))
    moves = np.cumsum(folded >> 1 ^ -(folded & 1))
    olds = np.zeros(count, np.int64)
    olds[placed] = moves + starts[placed]
    within = (olds >= 0) & (olds <= old_size) & (lengths <= old_size - olds)
    if not within[placed].all():
        raise damaged(f"places in an old file of {old_size} bytes", "others")
    cursor.finish()
    return Table(kinds, types, starts, lengths, olds)


def _decode_column(cursor: Cursor, count: int) -> Array:
    if count == 0:
        return np.zeros(0, np.int64)
    width = cursor.byte()
    if not 0 < width <= 8:  # noqa: PLR2004 - bytes of 64 bits
        raise damaged("a column of 1 to 8 bytes", width)
    values = np.zeros(count, np.uint64)
    rows = symbols.as_bytes(values)
    for place in range(width):
        rows[:, place] = np.frombuffer(streams.unpack(cursor, count), np.uint8)
    return values.view(np.int64)
