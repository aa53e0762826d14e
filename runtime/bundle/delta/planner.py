"""The whole plan of a new file: its tensors from old tensors, all other bytes from all other bytes.

tensors that match one old tensor      match       copied, or changed element by element
tensors that match none                align       the same for stretches of them; the rest whole
what lies between                      bytesmatch  copied, changed byte by byte, or whole
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from runtime.bundle.delta import align, bytesmatch, estimate, match, segments
from runtime.bundle.delta.align import Range
from runtime.bundle.delta.bytesmatch import Aligned
from runtime.bundle.delta.longest import SUFFIXES_BYTES, Bytes
from runtime.bundle.delta.plan import ElementType, Fresh, Segment, TensorExtent

SMALL_BYTES = 256
"""Smaller tensors are part of the bytes between: a segment of their own would cost more."""


@dataclass(frozen=True)
class Piece:
    """Bytes of the new file that follow old ones, element by element of this type."""

    stretch: Aligned
    type: ElementType


@dataclass
class _Work:
    old: Bytes
    new: Bytes
    pieces: list[Piece] = field(default_factory=list)
    """In any order, none over another."""
    unmatched: dict[ElementType, list[Range]] = field(default_factory=dict)


def tensor_plan(
    old: Bytes,
    new: Bytes,
    old_tensors: Sequence[TensorExtent],
    new_tensors: Sequence[TensorExtent],
) -> list[Segment]:
    """Return a plan of all of `new`; both lists are in the order of places, none over another."""
    mine = [extent for extent in new_tensors if extent.length >= SMALL_BYTES]
    theirs = [extent for extent in old_tensors if extent.length >= SMALL_BYTES]
    work = _Work(old, new)
    used = _match(work, theirs, mine)
    olds, news = _align(work, [extent for extent in theirs if extent not in used])
    olds += _ranges_between(theirs, old.size)
    news += _ranges_between(mine, new.size)
    _between(work, sorted(olds), sorted(news))
    return segments.merged(_in_order(work, mine))


def byte_plan(old: Bytes, new: Bytes) -> list[Segment]:
    """Return a plan that takes all of both files for bytes."""
    return tensor_plan(old, new, (), ())


def fresh_plan(new: Bytes, tensors: Sequence[TensorExtent]) -> list[Segment]:
    """Return a plan that needs no old file: everything is new, tensors by their type."""
    return segments.merged(_in_order(_Work(new[:0], new), tensors))


def _match(
    work: _Work, theirs: Sequence[TensorExtent], mine: Sequence[TensorExtent]
) -> set[TensorExtent]:
    """Pair tensors; return the old ones that found a successor for all that they are."""
    matcher = match.Matcher(work.old, work.new, theirs)
    used: set[TensorExtent] = set()
    partly: set[TensorExtent] = set()
    for extent in mine:
        pair = matcher.pair(extent)
        if pair is None:
            left = [Range(extent.offset, extent.length)]
        else:
            left = list(_take(work, pair))
            (partly if left else used).add(pair.old)
        work.unmatched.setdefault(extent.type, []).extend(left)
    return used - partly


def _take(work: _Work, pair: match.Pair) -> Iterator[Range]:
    """Note what a pair makes known; yield what of the new tensor remains unknown."""
    new_start, old_start = pair.new.offset + pair.at, pair.old.offset + pair.old_at
    mine = work.new[new_start : new_start + pair.length]
    theirs = work.old[old_start : old_start + pair.length]
    begin = 0
    if pair.at:
        yield Range(pair.new.offset, pair.at)
    for start, end in [*match.astray(theirs, mine, pair.new.type), (pair.length, pair.length)]:
        if begin < start:
            stretch = Aligned(new_start + begin, old_start + begin, start - begin)
            work.pieces.append(Piece(stretch, pair.new.type))
        if start < end:
            yield Range(new_start + start, end - start)
        begin = end
    behind = pair.new.offset + pair.new.length - new_start - pair.length
    if behind:
        yield Range(new_start + pair.length, behind)


def _align(work: _Work, unused: Sequence[TensorExtent]) -> tuple[list[Range], list[Range]]:
    """Look for what is left of the new tensors in what is left of the old ones.

    Returns the old and new ranges that are better matched as bytes: numbers that are no floats.
    """
    then: list[Range] = []
    now: list[Range] = []
    for kind, news in work.unmatched.items():
        olds = [Range(each.offset, each.length) for each in unused if each.type is kind]
        if kind in estimate.FLOATS:
            found = align.align(work.old, work.new, olds, news, kind)
            work.pieces += [Piece(stretch, kind) for stretch in found]
        elif sum(part.length for part in (*olds, *news)) <= SUFFIXES_BYTES and align.share_seeds(
            align.joined(work.old, olds), align.joined(work.new, news)
        ):
            then, now = then + olds, now + news
    return then, now


def _between(work: _Work, olds: Sequence[Range], news: Sequence[Range]) -> None:
    """Match what is no tensor."""
    then, now = align.joined(work.old, olds), align.joined(work.new, news)
    for stretch in bytesmatch.stretches(then, now):
        for piece in align.cut(stretch, olds, news):
            work.pieces.append(Piece(piece, ElementType.BYTES))


def _in_order(work: _Work, tensors: Iterable[TensorExtent]) -> Iterator[Segment]:
    """Yield the segments of all pieces, and between them what is new."""
    types = _Types(tensors)
    at = 0
    for piece in sorted(work.pieces, key=lambda piece: piece.stretch.new):
        yield from types.fresh(at, piece.stretch.new)
        yield from segments.follow(piece.stretch, work.old, work.new, piece.type)
        at = piece.stretch.new + piece.stretch.length
    yield from types.fresh(at, work.new.size)


class _Types:
    """Knows which bytes of the new file are which tensor's; asked in the order of places."""

    def __init__(self, tensors: Iterable[TensorExtent]) -> None:
        self._left = iter(tensors)
        self._next = next(self._left, None)

    def fresh(self, start: int, end: int) -> Iterator[Fresh]:
        """Yield a range as new, by type."""
        while start < end:
            extent = self._next
            if extent is None or end <= extent.offset:
                yield Fresh(end - start)
                return
            behind = extent.offset + extent.length
            if behind <= start:
                self._next = next(self._left, None)
                continue
            if start < extent.offset:
                yield Fresh(extent.offset - start)
                start = extent.offset
            stop = min(end, behind)
            whole = (stop - start) % extent.type.width == 0
            yield Fresh(stop - start, extent.type if whole else ElementType.BYTES)
            start = stop


def _ranges_between(extents: Iterable[TensorExtent], size: int) -> list[Range]:
    found, behind = [], 0
    for extent in extents:
        found.append(Range(behind, extent.offset - behind))
        behind = extent.offset + extent.length
    return [part for part in [*found, Range(behind, size - behind)] if part.length]
