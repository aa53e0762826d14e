"""Coding small unsigned numbers of one distribution: what residuals are once they are sorted.

Each number is cut in a low part, whose bits are as good as random and stay as they are, and a high
part, a symbol. Symbols below one bit of entropy are coded as gaps between those that are not zero;
small alphabets are packed, several symbols a byte, so that a Huffman code of bytes comes near the
entropy; large ones are bytes as they are. What is beyond the alphabet is an escape, and its excess
is coded again in the same way.

    shift and mode (1 byte) · low bytes · low nibbles · symbols or gaps · excess

One byte holds the shift in nibbles (0 to 16, times 4 bits) and the mode.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from runtime.bundle.delta import streams
from runtime.bundle.delta.format import Cursor, damaged, varint
from runtime.bundle.delta.streams import Array, Effort

PLAIN: Final = 0
"""No symbols: all bits are low."""
SPARSE: Final = 1
BYTE: Final = 2
PACKED: Final = {3: (2, 16), 4: (3, 6), 5: (4, 4), 6: (5, 3), 7: (8, 2)}
"""Mode: symbols a byte, size of the alphabet with its escape, which is its last."""

_ESCAPE: Final = 255
_DEPTH: Final = 6
"""Excess within excess within …: at most so often."""
_SAMPLE: Final = 1024
_MANY: Final = 1 << 15
_LEVELS: Final = 32
"""A median symbol below this: more of the number is random and would only widen the table."""
_SMALL: Final = 6
_RARE: Final = 0.03
_SPARSE_SHARE: Final = 0.7
_PACK_BITS: Final = 3.4
_FEW: Final = 24


@dataclass(frozen=True)
class _Choice:
    shift: int
    mode: int


def encode(values: Array, effort: Effort, depth: int = 0) -> bytes:
    """Return these unsigned numbers as bytes; nothing for none."""
    count = len(values)
    if count == 0:
        return b""
    width = values.dtype.itemsize * 8
    is_last = depth == _DEPTH or count < _FEW
    choice = _Choice(width, PLAIN) if is_last else _choose(values)
    out = bytes((choice.shift // 4 | choice.mode << 5,)) + _encode_low(values, choice.shift, effort)
    if choice.mode == PLAIN:
        return out
    high = values >> values.dtype.type(choice.shift) if choice.shift else values
    if choice.mode == SPARSE:
        return out + _encode_sparse(high, effort, depth)
    return out + _encode_symbols(high, choice.mode, effort, depth)


def _choose(values: Array) -> _Choice:
    """Judge by a sample how numbers are coded best."""
    sample = np.sort(values[:: max(1, len(values) // _SAMPLE)])
    median = int(sample[len(sample) // 2])
    shift = 0
    while median >> shift >= _LEVELS:
        shift += 4
    if median < _SMALL:
        some = values[:: max(1, len(values) // _MANY)]
        counts = np.bincount(np.minimum(some, _ESCAPE).astype(np.uint8), minlength=256)
        return _Choice(0, _mode_of_small(counts / len(some)))
    return _Choice(shift, BYTE)


def _mode_of_small(share: Array) -> int:
    if share[0] >= _SPARSE_SHARE:
        return SPARSE
    seen = share[share > 0]
    if float(-(seen * np.log2(seen)).sum()) > _PACK_BITS:
        return BYTE
    for mode in (6, 5, 4, 3):
        alphabet = PACKED[mode][1]
        if float(share[alphabet - 1 :].sum()) < _RARE:
            return mode
    return BYTE


def _encode_low(values: Array, shift: int, effort: Effort) -> bytes:
    planes = as_bytes(values)
    out = b"".join(streams.pack(planes[:, place].copy(), effort) for place in range(shift // 8))
    if shift % 8:
        nibbles = planes[:, shift // 8] & 15
        if len(nibbles) % 2:
            nibbles = np.append(nibbles, np.uint8(0))
        out += streams.pack(nibbles[::2] | nibbles[1::2] << 4, effort)
    return out


def as_bytes(values: Array) -> Array:
    """Return a view of numbers as rows of bytes, lowest first."""
    return values.view(np.uint8).reshape(len(values), values.dtype.itemsize)


def _encode_symbols(high: Array, mode: int, effort: Effort, depth: int) -> bytes:
    alphabet = PACKED[mode][1] if mode in PACKED else _ESCAPE + 1
    symbols = np.minimum(high, alphabet - 1).astype(np.uint8)
    excess = high[symbols == alphabet - 1] - high.dtype.type(alphabet - 1)
    if mode in PACKED:
        symbols = _fold(symbols, *PACKED[mode])
    return streams.pack(symbols, effort) + encode(excess, effort, depth + 1)


def _fold(symbols: Array, several: int, alphabet: int) -> Array:
    """Pack so many symbols into each byte."""
    missing = -len(symbols) % several
    if missing:
        symbols = np.append(symbols, np.zeros(missing, np.uint8))
    rows = symbols.reshape(-1, several)
    folded = rows[:, 0].copy()
    for place in range(1, several):
        folded += rows[:, place] * np.uint8(alphabet**place)
    return folded


def _encode_sparse(high: Array, effort: Effort, depth: int) -> bytes:
    places = np.flatnonzero(high)
    gaps = np.diff(places, prepend=-1) - 1
    laps = gaps // _ESCAPE
    ends = np.cumsum(laps + 1) - 1
    steps = np.full(int(ends[-1]) + 1 if len(ends) else 0, _ESCAPE, np.uint8)
    steps[ends] = gaps - laps * _ESCAPE
    # A step of 255 goes on 255 places; any lower one goes so far and stands on a number.
    values = high[places] - high.dtype.type(1)
    return varint(len(steps)) + streams.pack(steps, effort) + encode(values, effort, depth + 1)


def decode(cursor: Cursor, count: int, dtype: np.dtype[Any], depth: int = 0) -> Array:
    """Return the next `count` numbers; raise IntegrityError if they are not there."""
    if count == 0:
        return np.zeros(0, dtype)
    if depth > _DEPTH:
        raise damaged(f"at most {_DEPTH} levels of excess", "more")
    head = cursor.byte()
    shift, mode = (head & 31) * 4, head >> 5
    width = dtype.itemsize * 8
    if shift > width or (mode == PLAIN) != (shift == width):
        raise damaged(f"a shift that fits {width} bits", f"{shift}, mode {mode}")
    low = _decode_low(cursor, count, dtype, shift)
    if mode == PLAIN:
        return low
    if mode == SPARSE:
        high = _decode_sparse(cursor, count, dtype, depth)
    else:
        high = _decode_symbols(cursor, count, dtype, mode, depth)
    if shift == 0:
        return high
    high <<= dtype.type(shift)
    high |= low
    return high


def _decode_low(cursor: Cursor, count: int, dtype: np.dtype[Any], shift: int) -> Array:
    values = np.zeros(count, dtype)
    if shift == 0:
        return values
    planes = as_bytes(values)
    for place in range(shift // 8):
        planes[:, place] = np.frombuffer(streams.unpack(cursor, count), np.uint8)
    if shift % 8:
        pairs = np.frombuffer(streams.unpack(cursor, (count + 1) // 2), np.uint8)
        nibbles = np.empty(len(pairs) * 2, np.uint8)
        np.bitwise_and(pairs, 15, out=nibbles[::2])
        np.right_shift(pairs, 4, out=nibbles[1::2])
        planes[:, shift // 8] = nibbles[:count]
    return values


def _decode_symbols(
    cursor: Cursor, count: int, dtype: np.dtype[Any], mode: int, depth: int
) -> Array:
    if mode in PACKED:
        several, alphabet = PACKED[mode]
        folded = np.frombuffer(streams.unpack(cursor, -(-count // several)), np.uint8)
        symbols = _UNFOLD[mode].take(folded, axis=0).reshape(-1)[:count]
    else:
        alphabet = _ESCAPE + 1
        symbols = np.frombuffer(streams.unpack(cursor, count), np.uint8)
    high = symbols.astype(dtype)
    escapes = np.flatnonzero(symbols == alphabet - 1)
    if len(escapes):
        high[escapes] += decode(cursor, len(escapes), dtype, depth + 1)
    return high


def _decode_sparse(cursor: Cursor, count: int, dtype: np.dtype[Any], depth: int) -> Array:
    size = cursor.varint()
    if size > count + count // _ESCAPE:
        raise damaged(f"gaps between {count} numbers", size)
    steps = np.frombuffer(streams.unpack(cursor, size), np.uint8)
    stands = steps != _ESCAPE
    places = np.cumsum(steps.astype(np.int64) + stands)[stands] - 1
    if len(places) and places[-1] >= count:
        raise damaged(f"a place below {count}", places[-1])
    high = np.zeros(count, dtype)
    high[places] = decode(cursor, len(places), dtype, depth + 1) + dtype.type(1)
    return high


def _unfolding(several: int, alphabet: int) -> Array:
    """Return what each byte unfolds to, in rows of as many symbols."""
    folded = np.arange(256)[:, None] // alphabet ** np.arange(several)
    return (folded % alphabet).astype(np.uint8)


_UNFOLD: Final = {mode: _unfolding(*packing) for mode, packing in PACKED.items()}
