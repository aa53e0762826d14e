"""Whole tensors by byte planes: all first bytes, all second bytes, and so on.

A float's exponent says much of its neighbours', its mantissa nothing. So a float is turned left by
one bit, which brings the whole exponent into the highest byte and the sign to the lowest bit.

A plane of few values, as of exponents, is coded as numbers: each byte by its rank in frequency.
Others are streams.

    how many values are ranked (1 byte; 0: none) · those values · numbers, or a stream
"""

from typing import Final

import numpy as np

from runtime.bundle.delta import streams, symbols
from runtime.bundle.delta.format import Cursor, damaged
from runtime.bundle.delta.plan import ElementType
from runtime.bundle.delta.streams import Array, Effort

FLOATS: Final = frozenset({ElementType.FP16, ElementType.BF16, ElementType.FP32, ElementType.FP64})

_SAMPLE: Final = 1 << 12
_FEW_BITS: Final = 4.0
"""Planes of less entropy lose by a Huffman code of single bytes."""
_MOST_RANKED: Final = 128


def bits(data: Array, kind: ElementType) -> Array:
    """Return the elements that these bytes are, as unsigned numbers of their width."""
    return data.view(np.dtype(f"<u{kind.width}"))


def encode(values: Array, kind: ElementType) -> bytes:
    """Return the planes of these elements, highest first."""
    if kind in FLOATS:
        one = values.dtype.type(1)
        values = values << one | values >> values.dtype.type(kind.width * 8 - 1)
    rows = symbols.as_bytes(values)
    return b"".join(_encode_plane(rows[:, place].copy()) for place in reversed(range(kind.width)))


def _encode_plane(plane: Array) -> bytes:
    stream = bytes(1) + streams.pack(plane, Effort.SEARCH)
    sample = plane[:: max(1, len(plane) // _SAMPLE)]
    if len(stream) < _SAMPLE // 16 or entropy(np.bincount(sample)) > _FEW_BITS:
        return stream
    counts = np.bincount(plane, minlength=256)
    ranked = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].astype(np.uint8)
    if len(ranked) > _MOST_RANKED:
        return stream
    ranks = np.zeros(256, np.uint8)
    ranks[ranked] = np.arange(len(ranked))
    coded = symbols.encode(ranks.take(plane), Effort.QUICK)
    return min(stream, bytes((len(ranked),)) + ranked.tobytes() + coded, key=len)


def entropy(counts: Array) -> float:
    """Return the bits that each of so often seen symbols needs."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def decode(cursor: Cursor, count: int, kind: ElementType) -> Array:
    """Return the next `count` elements; raise IntegrityError if they are not there."""
    values: Array = np.empty(count, np.dtype(f"<u{kind.width}"))
    rows = symbols.as_bytes(values)
    for place in reversed(range(kind.width)):
        rows[:, place] = _decode_plane(cursor, count)
    if kind in FLOATS:
        one = values.dtype.type(1)
        values = values >> one | values << values.dtype.type(kind.width * 8 - 1)
    return values


def _decode_plane(cursor: Cursor, count: int) -> Array:
    ranked = np.frombuffer(bytes(cursor.take(cursor.byte())), np.uint8)
    if len(ranked) == 0:
        return np.frombuffer(streams.unpack(cursor, count), np.uint8)
    ranks = symbols.decode(cursor, count, np.dtype(np.uint8))
    if int(ranks.max()) >= len(ranked):
        raise damaged(f"ranks below {len(ranked)}", ranks.max())
    plane: Array = ranked.take(ranks)
    return plane
