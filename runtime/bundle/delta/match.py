"""Which old tensor a new one comes from.

By content first: a re-export renames and reorders, and numbers the names of one layer with those of
another. So a name is only a hint; what counts is that a change costs fewer bits than the tensor
whole. An old tensor may serve several new ones.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.delta import estimate
from runtime.bundle.delta.longest import Bytes
from runtime.bundle.delta.plan import ElementType, TensorExtent

WORTH = 0.97
"""A change must cost at most this part of the tensor whole, or it is not worth its overhead."""
CLOSE = 0.7
"""Sketches further apart than this part of the values' own spread are of different tensors."""
_SKETCH = 256
_TRIES = 8
_KEPT = 0.1
"""So many elements left as they were make a pair, whatever became of the others: pruning."""
_CHUNK, _CHUNKS, _CHUNK_SAMPLE = 4096, 64, 2048
_ALIKE = 0.5

Values = NDArray[np.float64]
_Key = tuple[ElementType, int]


@dataclass(frozen=True)
class Pair:
    """`length` bytes of a new tensor, from `at` on, come from the old one, from `old_at` on."""

    new: TensorExtent
    old: TensorExtent
    at: int
    old_at: int
    length: int


@dataclass
class Matcher:
    """Finds the old tensor for each new one."""

    old: Bytes
    new: Bytes
    tensors: Sequence[TensorExtent]
    """Of the old file."""
    by_name: dict[str, TensorExtent] = field(init=False)
    by_size: dict[_Key, list[TensorExtent]] = field(init=False, default_factory=dict)
    by_content: dict[bytes, TensorExtent] = field(init=False, default_factory=dict)
    by_row: dict[tuple[ElementType, tuple[int, ...]], list[TensorExtent]] = field(
        init=False, default_factory=dict
    )
    _sketches: dict[_Key, Values] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Look at the old tensors, once."""
        self.by_name = {extent.name: extent for extent in self.tensors}
        for extent in self.tensors:
            self.by_size.setdefault((extent.type, extent.length), []).append(extent)
            self.by_content.setdefault(_fingerprint(self.old, extent), extent)
            self.by_row.setdefault((extent.type, extent.shape[1:]), []).append(extent)

    def pair(self, new: TensorExtent) -> Pair | None:
        """Return where a new tensor comes from; None if from nowhere."""
        for old in self._candidates(new):
            if self._same(old, new) or self._pays(old, new, 0, 0, new.length):
                return Pair(new, old, 0, 0, new.length)
        return self._resized(new)

    def _candidates(self, new: TensorExtent) -> Iterable[TensorExtent]:
        """Yield old tensors of the same type and size, the most promising first."""
        twin = self.by_content.get(_fingerprint(self.new, new))
        if twin is not None and twin.length == new.length:
            yield twin
        namesake = self.by_name.get(new.name)
        if namesake is not None and (namesake.type, namesake.length) == (new.type, new.length):
            yield namesake
        alike = self.by_size.get((new.type, new.length), [])
        if alike:
            nearest = self._nearest(alike, new)
            if nearest is not None:
                yield nearest

    def _nearest(self, alike: list[TensorExtent], new: TensorExtent) -> TensorExtent | None:
        key = (new.type, new.length)
        known = self._sketches.get(key)
        if known is None:
            known = np.stack([sketch(self.old, extent) for extent in alike])
            self._sketches[key] = known
        mine = sketch(self.new, new)
        apart = np.abs(known - mine).mean(axis=1)
        best = int(apart.argmin())
        spread = float(np.abs(mine - mine.mean()).mean())
        return alike[best] if apart[best] <= CLOSE * spread else None

    def _resized(self, new: TensorExtent) -> Pair | None:
        """Pair the rows at the beginning or at the end of a tensor that grew or shrank."""
        rows = self.by_row.get((new.type, new.shape[1:]), [])
        named = sorted(rows, key=lambda old: (old.name != new.name, abs(old.length - new.length)))
        for old in named[:_TRIES]:
            length = min(old.length, new.length)
            for at, old_at in ((0, 0), (new.length - length, old.length - length)):
                if length and self._pays(old, new, at, old_at, length):
                    return Pair(new, old, at, old_at, length)
        return None

    def _same(self, old: TensorExtent, new: TensorExtent) -> bool:
        return np.array_equal(content(self.old, old), content(self.new, new))

    def _pays(
        self, old: TensorExtent, new: TensorExtent, at: int, old_at: int, length: int
    ) -> bool:
        now = content(self.new, new)[at : at + length]
        then = content(self.old, old)[old_at : old_at + length]
        return pays(then, now, new.type)


def pays(old: Bytes, new: Bytes, kind: ElementType) -> bool:
    """Say if `new` costs less as a change of `old` than whole."""
    then, now = (estimate.sample(data, kind.width) for data in (old, new))
    kept = (then == now).reshape(-1, kind.width).all(axis=1).mean()
    change = estimate.change_bits(then, now, kind)
    return kept > _KEPT or change < WORTH * estimate.fresh_bits(now, kind)


def astray(old: Bytes, new: Bytes, kind: ElementType) -> list[tuple[int, int]]:
    """Return where `new` is no change of `old`, both as long: beginnings and ends, in bytes.

    A row put in turns half a table into strangers although the other half matches. Judged chunk by
    chunk: by their highest bytes first, which are alike in numbers alike.
    """
    count = new.size // kind.width
    chunk = max(_CHUNK, -(-count // _CHUNKS))
    if count < 2 * chunk:
        return []
    found: list[tuple[int, int]] = []
    for start in range(0, count, chunk):
        at, end = start * kind.width, min(start + chunk, count) * kind.width
        some = slice(at + kind.width - 1, end, kind.width * max(1, (end - at) // _CHUNK_SAMPLE))
        if np.mean(old[some] == new[some]) < _ALIKE and not pays(old[at:end], new[at:end], kind):
            if found and found[-1][1] == at:
                at = found.pop()[0]
            found.append((at, end))
    return found


def content(data: Bytes, extent: TensorExtent) -> Bytes:
    """Return a tensor's bytes."""
    return data[extent.offset : extent.offset + extent.length]


def sketch(data: Bytes, extent: TensorExtent) -> Values:
    """Return some of a tensor's values, always the same places; 0 for what is not finite."""
    width = extent.type.width
    count = extent.length // width
    places = np.linspace(0, count - 1, min(_SKETCH, count)).astype(np.int64)
    elements = content(data, extent).reshape(-1, width)[places]
    found = numbers(elements.reshape(-1), extent.type)
    return np.where(np.abs(found) < np.finfo(np.float32).max, found, 0.0)


def numbers(data: Bytes, kind: ElementType) -> Values:
    """Return what elements mean; integers count as signed."""
    words = estimate.words(data, kind.width)
    found: NDArray[Any]
    if kind is ElementType.BF16:
        found = (words.astype(np.uint32) << 16).view(np.float32)
    elif kind in estimate.FLOATS:
        found = words.view(f"<f{kind.width}")
    elif kind is ElementType.BYTES:
        found = words
    else:
        found = words.view(f"<i{kind.width}")
    with np.errstate(invalid="ignore"):  # NaN that signal
        return found.astype(np.float64)


def _fingerprint(data: Bytes, extent: TensorExtent) -> bytes:
    some = estimate.sample(content(data, extent), extent.type.width)
    digest = hashlib.blake2b(some.tobytes(), digest_size=16)
    digest.update(f"{extent.type.value} {extent.length}".encode())
    return digest.digest()
