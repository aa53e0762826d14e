"""For each byte of the new file: the longest run from here on that the old file holds too.

With a suffix array (the pydivsufsort package; the cloud has it) the answer is exact, but for runs
up to the old file's very end, which may be found shorter. Without it, and in files too large for
one, runs are found by hashing: those of 16 bytes or somewhat more.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import pydivsufsort
except ImportError:  # it comes with the [cloud] extra
    pydivsufsort = None

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]

SUFFIXES_BYTES = 64 << 20
"""Both files together: a suffix array takes some 20 times its text."""
SEED_BYTES = 16

_SLICE = 1 << 20
_INDEXED = 8 << 20
"""Places of the old file that are looked up, at most; in a larger file every second, third, …."""


@dataclass(frozen=True)
class Longest:
    """`length[i]` bytes from `i` on in the new file are the old file's from `place[i]` on."""

    length: Places
    place: Places


def longest(old: Bytes, new: Bytes) -> Longest:
    """Return the longest match of each position."""
    if not old.size or not new.size:
        return _nothing(new.size)
    if pydivsufsort is None or old.size + new.size > SUFFIXES_BYTES:
        return Index(old).longest(new)
    return _by_suffixes(old, new)


def _nothing(size: int) -> Longest:
    return Longest(np.zeros(size, np.int64), np.zeros(size, np.int64))


def _by_suffixes(old: Bytes, new: Bytes) -> Longest:
    """Sort all suffixes of both: the best match of one stands next to it, above or below."""
    text = np.concatenate([old, new])
    order = pydivsufsort.divsufsort(text)
    shared = pydivsufsort.kasai(text, order)  # shared[i]: of order[i] and order[i + 1]
    runs, places = _above(order, shared[:-1], old.size)
    runs_below, places_below = (
        each[::-1] for each in _above(order[::-1], shared[-2::-1], old.size)
    )
    np.copyto(places, places_below, where=runs_below > runs)
    np.maximum(runs, runs_below, out=runs)
    at = order[order >= old.size] - old.size
    found = _nothing(new.size)
    found.length[at], found.place[at] = runs, places
    return found


def _above(order: NDArray[Any], shared: NDArray[Any], old_size: int) -> tuple[Places, Places]:
    """Return, for each new suffix in order, what it shares with the last old one before, and where.

    `shared[i]` is what the suffixes `i` and `i + 1` share.
    """
    runs, places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    last, carried = -1, 0  # the last old suffix passed, and what the suffix before shares with it
    for start in range(0, order.size, _SLICE):
        part = order[start : start + _SLICE]
        is_old = part < old_size
        before = np.empty(part.size, np.int64)
        before[0] = min(carried, int(shared[start - 1]) if start else 0)
        before[1:] = shared[start : start + part.size - 1]
        # A running minimum that starts again behind each old suffix: each stretch is lowered by
        # so much more than the one before it that the minimum cannot reach across.
        depth = np.zeros(part.size, np.int64)
        depth[1:] = np.cumsum(is_old[:-1]) << 32
        shares = np.minimum.accumulate(before - depth) + depth
        carry = int(shares[-1])
        olds = np.where(is_old, np.arange(part.size), -1)
        reached = np.maximum.accumulate(np.concatenate([[-1], olds[:-1]]))
        source = np.where(reached >= 0, part[np.maximum(reached, 0)], last)
        found = source[~is_old]
        # A shared run may go on from the old file's end into the new one's beginning: cut it.
        shares = np.where(source >= 0, np.minimum(shares, old_size - source), 0)
        runs.append(shares[~is_old])
        places.append(np.maximum(found, 0))
        if is_old[-1]:
            last, carried = int(part[-1]), 1 << 31
        else:
            last, carried = int(source[-1]), carry
    return np.concatenate(runs), np.concatenate(places)


class Index:
    """Looks every 16 bytes of a new file up among those of the old one; for any size of it."""

    def __init__(self, old: Bytes) -> None:
        """Sort the old file's seeds."""
        self._old = old
        every = max(1, -(-old.size // _INDEXED))
        slices = (old[at : at + _SLICE * every + SEED_BYTES - 1] for at in _starts(old, every))
        known = np.concatenate([seeds(part)[::every] for part in slices])
        order = np.argsort(known, kind="stable")
        self._seeds, self._places = known[order], order * every

    def longest(self, new: Bytes) -> Longest:
        """Return the longest match of each position, as far as seeds tell."""
        found = _nothing(new.size)
        mine = seeds(new)
        if not self._seeds.size or not mine.size:
            return found
        ranks = np.argsort(mine)  # looked up in order, the search stays in the cache
        at = np.empty(mine.size, np.int64)
        at[ranks] = np.minimum(np.searchsorted(self._seeds, mine[ranks]), self._seeds.size - 1)
        hits = np.flatnonzero(self._seeds[at] == mine)
        places = self._places[at[hits]]
        done, next_hit = 0, 0
        while next_hit < hits.size:
            head, place = int(hits[next_hit]), int(places[next_hit])
            back = _same_run_back(self._old[:place], new[done:head])
            run = back + same_run(self._old[place:], new[head:])
            begin = head - back
            done = begin + run
            if run >= SEED_BYTES:
                found.length[begin:done] = np.arange(run, 0, -1)
                found.place[begin:done] = np.arange(place - back, place - back + run)
            next_hit = max(next_hit + 1, int(np.searchsorted(hits, done)))
        return found


def _starts(data: Bytes, every: int) -> range:
    return range(0, data.size, _SLICE * every)


def seeds(data: Bytes) -> NDArray[np.uint64]:
    """Return a number for the 16 bytes from each position on; nothing for fewer bytes."""
    if data.size < SEED_BYTES:
        return np.zeros(0, np.uint64)
    two = data[:-1].astype(np.uint16) | data[1:].astype(np.uint16) << np.uint16(8)
    four = two[:-2].astype(np.uint32) | two[2:].astype(np.uint32) << np.uint32(16)
    eight = four[:-4].astype(np.uint64) | four[4:].astype(np.uint64) << np.uint64(32)
    mixed = eight[:-8] * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed += eight[8:] * np.uint64(0xC2B2AE3D27D4EB4F)
    return mixed


def same_run(first: Bytes, second: Bytes) -> int:
    """Return how many bytes are the same from the beginnings on."""
    limit, done, step = min(first.size, second.size), 0, 64
    while done < limit:
        end = min(done + step, limit)
        differ = first[done:end] != second[done:end]
        if differ.any():
            return done + int(differ.argmax())
        done, step = end, step * 4
    return limit


def _same_run_back(first: Bytes, second: Bytes) -> int:
    """Return how many bytes are the same before the ends."""
    return same_run(first[::-1], second[::-1])
