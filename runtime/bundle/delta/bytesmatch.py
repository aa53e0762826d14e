"""Bytes that are no tensors: which stretches of the new file follow a stretch of the old one.

As bsdiff does it: a match that carries on at the same distance is kept through bytes that differ,
for in machine code, text and graphs alike it is a few bytes in a moved stretch that change; another
distance is taken only where that makes up for naming it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.delta.longest import SUFFIXES_BYTES, Bytes, Index, Longest, longest

WORTH_BYTES = 8
"""So many more bytes must another distance match than the one at hand."""
WINDOW_BYTES = 8 << 20
"""Of the new file: what is worked on at a time where the files are large."""
_REGION_BYTES = 24 << 20
"""Of the old file: what a window is compared with in depth."""
_FIRST_STEP, _LAST_STEP = 32, 1 << 16


@dataclass(frozen=True)
class Aligned:
    """`length` new bytes from `new` on resemble the old ones from `old` on."""

    new: int
    old: int
    length: int


def stretches(old: Bytes, new: Bytes) -> Iterator[Aligned]:
    """Yield the stretches of `new` that follow `old`, in order; for files of any size."""
    if old.size + new.size <= SUFFIXES_BYTES:
        yield from aligned(old, new, longest(old, new))
        return
    index = Index(old)
    for start in range(0, new.size, WINDOW_BYTES):
        window = new[start : start + WINDOW_BYTES]
        for found in aligned(old, window, _near_and_far(index, old, window, start)):
            yield replace(found, new=found.new + start)


def _near_and_far(index: Index, old: Bytes, window: Bytes, start: int) -> Longest:
    """Return the longest matches of a window: in all of the old file by hash, nearby by suffix."""
    far = index.longest(window)
    hits = far.length > 0
    middle = int(np.median(far.place[hits])) if hits.any() else start + window.size // 2
    low = max(0, min(middle - _REGION_BYTES // 2, old.size - _REGION_BYTES))
    near = longest(old[low : low + _REGION_BYTES], window)
    better = near.length > far.length
    return Longest(
        np.where(better, near.length, far.length), np.where(better, near.place + low, far.place)
    )


def aligned(
    old: Bytes, new: Bytes, matches: Longest, worth: int = WORTH_BYTES
) -> Iterator[Aligned]:
    """Yield the stretches worth keeping, in the order of the new file, none over another."""
    return _Scan(old, new, matches, worth).run()


@dataclass
class _Scan:
    """Walks the new file. `new_start` and `old_start`: where the distance at hand was taken up."""

    old: Bytes
    new: Bytes
    matches: Longest
    worth: int
    new_start: int = 0
    old_start: int = 0

    def run(self) -> Iterator[Aligned]:
        at = 0
        while at < self.new.size:
            at, run, agrees = self._next(at)
            if at == self.new.size:
                break
            if not agrees:
                place = int(self.matches.place[at])
                ahead, behind = self._meet(at, place)
                if ahead:
                    yield Aligned(self.new_start, self.old_start, ahead)
                self.new_start, self.old_start = at - behind, place - behind
            at += run
        ahead = self._ahead(self.new.size)
        if ahead:
            yield Aligned(self.new_start, self.old_start, ahead)

    def _next(self, start: int) -> tuple[int, int, bool]:
        """Return the next place where a match ends the search, its length, and if it agrees.

        It agrees if the distance at hand matches just as many bytes there.
        """
        step = _FIRST_STEP
        while start < self.new.size:
            end = min(start + step, self.new.size)
            runs = self.matches.length[start:end]
            hits = self._hits(start, end + int(runs.max()))
            total = np.concatenate([np.zeros(1, np.int64), np.cumsum(hits)])
            begin = np.arange(end - start)
            scores = total[begin + runs] - total[begin]
            stops = ((runs == scores) & (runs > 0)) | (runs > scores + self.worth)
            first = int(stops.argmax())
            if stops[first]:
                return start + first, int(runs[first]), bool(runs[first] == scores[first])
            start, step = end, min(step * 2, _LAST_STEP)
        return self.new.size, 0, False

    def _hits(self, start: int, end: int) -> NDArray[Any]:
        """Say of each new byte in a range if it equals the old one at the distance at hand."""
        end = min(end, self.new.size)
        shift = self.old_start - self.new_start
        hits = np.zeros(end - start, np.bool_)
        low, high = max(start, -shift), min(end, self.old.size - shift)
        if low < high:
            there = self.old[low + shift : high + shift]
            np.equal(self.new[low:high], there, out=hits[low - start : high - start])
        return hits

    def _meet(self, at: int, place: int) -> tuple[int, int]:
        """Return how far the distance at hand goes on, and how far back a match at `at` reaches."""
        ahead = self._ahead(at)
        length = min(at - self.new_start, place)
        behind = _best((self.new[at - length : at] == self.old[place - length : place])[::-1])
        overlap = ahead + behind - (at - self.new_start)
        if overlap <= 0:
            return ahead, behind
        # Both claim these bytes: cut where it loses least.
        here = self.new[at - behind : at - behind + overlap]
        was = self.old[self.old_start + ahead - overlap : self.old_start + ahead]
        will = self.old[place - behind : place - behind + overlap]
        gain = np.cumsum((here == was).astype(np.int64) - (here == will))
        best = int(gain.argmax())
        kept = best + 1 if gain[best] > 0 else 0
        return ahead - overlap + kept, behind - kept

    def _ahead(self, limit: int) -> int:
        """Return how far the distance at hand carries on, at most to `limit`."""
        hits = self._hits(self.new_start, limit)
        return _best(hits[: max(0, self.old.size - self.old_start)])


def _best(hits: NDArray[Any]) -> int:
    """Return the length at which bytes that agree most outnumber those that do not."""
    if not hits.size:
        return 0
    score = 2 * np.cumsum(hits, dtype=np.int64) - np.arange(1, hits.size + 1)
    first = int(score.argmax())
    return first + 1 if score[first] > 0 else 0
