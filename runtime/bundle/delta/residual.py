"""What a tensor's elements differ by from the old ones, coded in the light of the old ones.

Floats become integers in the order of their values, so that near values are near integers, and the
difference is taken modulo 2^n: exact for every bit pattern, NaN and negative zero too. How far a
weight moves, counted in units of its last place, hangs on its exponent, which the decoder knows
from the old file. So residuals are sorted by a key cut from the old element's bits, and each run of
like keys is a group, with its own centre and its own code (runtime.bundle.delta.symbols).

    key shift · key bits · groups · for each group: elements, centre, numbers
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from runtime.bundle.delta import planes, symbols
from runtime.bundle.delta.format import Cursor, damaged, unzigzag, varint, zigzag
from runtime.bundle.delta.plan import ElementType
from runtime.bundle.delta.streams import Array, Effort

MAX_KEY_BITS: Final = 16
"""Two passes of a radix sort."""


@dataclass(frozen=True)
class Key:
    """Which bits of an old element its residual is sorted by; no bits: not sorted."""

    shift: int
    bits: int


NO_KEY: Final = Key(0, 0)
KEYS: Final = {
    ElementType.FP16: Key(10, 5),
    ElementType.BF16: Key(7, 8),
    ElementType.FP32: Key(23, 8),
    ElementType.FP64: Key(52, 11),
    ElementType.INT8: Key(0, 8),
}
"""The exponent; of int8 all bits, for a change of scale moves an element by what it is."""

_SORTED_FROM: Final = 2048
"""Fewer elements are one group: each more costs a table."""
_GROUP: Final = 1024
_GROUPS: Final = 256
_SAMPLE: Final = 1024
_SPARSELY: Final = 61
_RUNS: Final = 0.8
"""Fewer edges than this share of what chance gives are runs."""
_PAIRS: Final = 1 << 18
_TABLE_BITS: Final = 400.0
_CENTRE_LIMIT: Final = 1 << 61


def encode(new: Array, old: Array, kind: ElementType) -> bytes:
    """Return the residuals of `new` from `old`, unsigned numbers of the type's width."""
    residuals = _ordered(new, kind) - _ordered(old, kind)
    key = KEYS.get(kind, NO_KEY) if len(new) >= _SORTED_FROM else NO_KEY
    best = _encode_sorted(residuals, old, key)
    if key is not NO_KEY and not residuals[::_SPARSELY].all() and _in_runs(residuals != 0):
        # Sorting would scatter what lies together.
        best = min(best, _encode_sorted(residuals, old, NO_KEY), key=len)
    return best


def _in_runs(moved: Array) -> bool:
    """Say whether elements that moved lie side by side rather than anywhere."""
    share = np.count_nonzero(moved) / len(moved)
    edges = np.count_nonzero(moved[1:] != moved[:-1])
    return bool(edges < _RUNS * 2 * share * (1 - share) * len(moved))


def _encode_sorted(residuals: Array, old: Array, key: Key) -> bytes:
    groups = [len(residuals)]
    if key.bits:
        keys = _keys(old, key)
        groups = _groups_of_bytes(residuals, keys) if old.itemsize == 1 else _groups(keys, key)
        if len(groups) > 1:
            residuals = residuals.take(np.argsort(keys, kind="stable"))
        else:
            key = NO_KEY
    # Sorting leaves no repeats to be found.
    effort = Effort.QUICK if key.bits else Effort.SEARCH
    out = bytearray((key.shift, key.bits)) + varint(len(groups))
    start = 0
    for count in groups:
        group = residuals[start : start + count]
        start += count
        centre = _centre(group)
        if centre:
            group = group - np.array(centre).astype(group.dtype)
        out += varint(count) + varint(zigzag(centre)) + symbols.encode(_zigzag(group), effort)
    return bytes(out)


def median(new: Array, old: Array, kind: ElementType) -> int:
    """Return the middle one of these residuals, zigzagged."""
    folded = _zigzag(_ordered(new, kind) - _ordered(old, kind))
    return int(np.partition(folded, len(folded) // 2)[len(folded) // 2])


def _ordered(bits: Array, kind: ElementType) -> Array:
    """Return floats as integers in the order of their values; the same again turns them back."""
    if kind not in planes.FLOATS:
        return bits
    signs: Array = _signed(bits) >> (kind.width * 8 - 1)
    ordered: Array = bits ^ signs.view(bits.dtype) >> bits.dtype.type(1)
    return ordered


def _signed(values: Array) -> Array:
    return values.view(np.dtype(f"<i{values.itemsize}"))


def _zigzag(values: Array) -> Array:
    signs: Array = _signed(values) >> (values.itemsize * 8 - 1)
    folded: Array = values << values.dtype.type(1) ^ signs.view(values.dtype)
    return folded


def _unzigzag(values: Array) -> Array:
    one = values.dtype.type(1)
    unfolded: Array = values >> one ^ -(values & one)
    return unfolded


def _keys(old: Array, key: Key) -> Array:
    small = np.uint8 if key.bits <= 8 else np.uint16  # noqa: PLR2004 - bits of a byte
    mask = old.dtype.type(min((1 << key.bits) - 1, np.iinfo(old.dtype).max))
    keys: Array = (old >> old.dtype.type(key.shift) & mask).astype(small)
    return keys


def _groups(keys: Array, key: Key) -> list[int]:
    """Return how many elements of the sorted order each group has: neighbours in key together."""
    least = max(_GROUP, len(keys) // _GROUPS)
    groups, open_count = [], 0
    for count in np.bincount(keys, minlength=1 << key.bits).tolist():
        open_count += count
        if open_count >= least:
            groups.append(open_count)
            open_count = 0
    if open_count:
        groups.append(open_count)
    return groups


def _groups_of_bytes(residuals: Array, keys: Array) -> list[int]:
    """Group bytes: neighbours in key stay together while apart they would not cost less."""
    step = max(1, len(keys) // _PAIRS)
    pairs = keys[::step].astype(np.uint16) << 8 | residuals[::step]
    table = np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
    seen = np.flatnonzero(table.any(axis=1))
    table = table[seen][:, table.any(axis=0)]
    costs = (_cost(table) + _TABLE_BITS / step).tolist()
    starts, group, cost = [0], table[0], costs[0]
    for value, row, row_cost in zip(seen[1:].tolist(), table[1:], costs[1:], strict=True):
        both = group + row
        together = float(_cost(both)) + _TABLE_BITS / step
        if together <= cost + row_cost:
            group, cost = both, together
        else:
            starts.append(value)
            group, cost = row, row_cost
    counts = np.add.reduceat(np.bincount(keys, minlength=256), starts)
    return [count for count in counts.tolist() if count]


def _cost(counts: Array) -> Array:
    """Return the bits that numbers of these frequencies (the last axis) need."""
    total = counts.sum(axis=-1)
    own = (counts * np.log2(np.maximum(counts, 1))).sum(axis=-1)
    return np.asarray(total * np.log2(total) - own)


def _centre(group: Array) -> int:
    """Return what to take from each residual of a group, so that they lie round zero."""
    sample = np.sort(_signed(group[:: max(1, len(group) // _SAMPLE)]))
    low, middle, high = (int(sample[len(sample) * part // 4]) for part in (1, 2, 3))
    if abs(middle) * 8 <= high - low or abs(middle) > _CENTRE_LIMIT:
        return 0
    return middle


def decode(cursor: Cursor, old: Array, kind: ElementType) -> Array:
    """Return the new elements; raise IntegrityError if the residuals are damaged."""
    key = Key(cursor.byte(), cursor.byte())
    if key.shift >= kind.width * 8 or key.bits > MAX_KEY_BITS:
        raise damaged(f"a key of {kind.value}", key)
    residuals = np.empty_like(old)
    start = 0
    for _ in range(cursor.varint()):
        count, centre = cursor.varint(), unzigzag(cursor.varint())
        if not 0 < count <= len(old) - start:
            raise damaged(f"groups of {len(old)} elements", f"{count} after {start}")
        group = _unzigzag(symbols.decode(cursor, count, old.dtype))
        if centre:
            group += np.array(centre).astype(old.dtype)
        residuals[start : start + count] = group
        start += count
    if start != len(old):
        raise damaged(f"groups of {len(old)} elements", start)
    if key.bits:
        scattered = np.empty_like(residuals)
        scattered[np.argsort(_keys(old, key), kind="stable")] = residuals
        residuals = scattered
    return _ordered(_ordered(old, kind) + residuals, kind)
