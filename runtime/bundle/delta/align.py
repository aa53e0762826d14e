"""Numbers of which nobody says where they came from: rows inserted, layers merged, tables cut.

A tune moves weights a little and rarely their highest byte: sign and exponent. So the highest
bytes of the new numbers are matched against those of the old ones, as any bytes are, with
tolerance; where they line up, so do the numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.delta import bytesmatch, estimate, match
from runtime.bundle.delta.bytesmatch import Aligned
from runtime.bundle.delta.longest import Bytes, longest, seeds
from runtime.bundle.delta.plan import ElementType

MAX_ELEMENTS = 48 << 20
"""Of both files together; more would need too much memory."""
_WORTH = 24
"""Exponents are so alike that shorter matches mean nothing."""
_LEAST_ELEMENTS = 64
_SHARED = 0.02


@dataclass(frozen=True, order=True)
class Range:
    """Bytes of a file."""

    start: int
    length: int


def align(
    old: Bytes, new: Bytes, olds: Sequence[Range], news: Sequence[Range], kind: ElementType
) -> Iterator[Aligned]:
    """Yield where stretches of the new ranges come from, by place in the files, in any order.

    The ranges' lengths are multiples of the type's width; no stretch crosses the end of a range.
    """
    width = kind.width
    if sum(part.length for part in (*olds, *news)) // width > MAX_ELEMENTS:
        return
    left = list(news)
    # What is the same has exact ends, and is told by all of its bytes: so that comes first.
    for plane in (_mixed, _highest):
        then, now = ([plane(data, part, width) for part in parts] for data, parts in (
            (old, olds), (new, left)
        ))  # fmt: skip
        found = list(_lined_up(then, now, olds, left, width)) if olds and left else []
        good = [piece for piece in found if _good(piece, old, new, kind)]
        yield from good
        left = list(_without(left, good))


def _lined_up(
    then: list[Bytes], now: list[Bytes], olds: Sequence[Range], news: Sequence[Range], width: int
) -> Iterator[Aligned]:
    """Match planes as bytes are; yield the stretches that lie in one range each."""
    theirs, mine = np.concatenate(then), np.concatenate(now)
    if share_seeds(theirs, mine):
        for stretch in bytesmatch.aligned(theirs, mine, longest(theirs, mine), _WORTH):
            yield from cut(stretch, olds, news, width)


def _good(piece: Aligned, old: Bytes, new: Bytes, kind: ElementType) -> bool:
    mine = new[piece.new : piece.new + piece.length]
    theirs = old[piece.old : piece.old + piece.length]
    enough = piece.length >= _LEAST_ELEMENTS * kind.width
    return enough and (np.array_equal(theirs, mine) or match.pays(theirs, mine, kind))


def _without(parts: Sequence[Range], pieces: Sequence[Aligned]) -> Iterator[Range]:
    """Yield what pieces, in the order of the new file, leave of ranges in the same order."""
    at = 0
    for part in parts:
        start, end = part.start, part.start + part.length
        while at < len(pieces) and pieces[at].new < end:
            if start < pieces[at].new:
                yield Range(start, pieces[at].new - start)
            start = pieces[at].new + pieces[at].length
            at += 1
        if start < end:
            yield Range(start, end - start)


def cut(
    stretch: Aligned, olds: Sequence[Range], news: Sequence[Range], width: int = 1
) -> Iterator[Aligned]:
    """Yield a stretch of joined ranges as places in the files, cut where a range ends.

    Joined: the ranges' elements one after the other, which is how `stretch` counts.
    """
    old_ends = np.cumsum([part.length // width for part in olds])
    new_ends = np.cumsum([part.length // width for part in news])
    at, end = stretch.new, stretch.new + stretch.length
    shift = stretch.old - stretch.new
    while at < end:
        mine = int(np.searchsorted(new_ends, at, side="right"))
        theirs = int(np.searchsorted(old_ends, at + shift, side="right"))
        stop = min(end, int(new_ends[mine]), int(old_ends[theirs]) - shift)
        yield Aligned(
            news[mine].start + news[mine].length - (int(new_ends[mine]) - at) * width,
            olds[theirs].start + olds[theirs].length
            - (int(old_ends[theirs]) - at - shift) * width,
            (stop - at) * width,
        )  # fmt: skip
        at = stop


def joined(data: Bytes, parts: Sequence[Range]) -> Bytes:
    """Return the bytes of ranges one after the other."""
    if not parts:
        return np.zeros(0, np.uint8)
    return np.concatenate([data[part.start : part.start + part.length] for part in parts])


def _highest(data: Bytes, part: Range, width: int) -> Bytes:
    """Return the highest byte of each element."""
    return data[part.start + width - 1 : part.start + part.length : width]


def _mixed(data: Bytes, part: Range, width: int) -> Bytes:
    """Return a byte for each element in which all of its bytes have a say."""
    words = estimate.words(data[part.start : part.start + part.length], width).astype(np.uint64)
    return (words * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(56)).astype(np.uint8)


def share_seeds(old: Bytes, new: Bytes) -> bool:
    """Say if runs of the new bytes are found in the old ones at all; cheap, by a sample."""
    theirs, mine = (_few(seeds(data)) for data in (old, new))
    return mine.size > 0 and bool(np.isin(mine, theirs).mean() >= _SHARED)


def _few(found: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one in 64 of these: which ones hangs on their values alone."""
    mixed = (found ^ (found >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    return np.unique(mixed[mixed >> np.uint64(58) == 0])
