"""From stretches that follow the old file to segments: copies, changes and what is new."""

from collections.abc import Iterable, Iterator

import numpy as np

from runtime.bundle.delta.bytesmatch import Aligned
from runtime.bundle.delta.longest import Bytes
from runtime.bundle.delta.plan import Change, Copy, ElementType, Fresh, Segment

COPY_BYTES = 512
"""Shorter runs without a change stay part of the change round them: naming them costs more."""
BLOCK_BYTES = 4096
COPY_BLOCKS = 64
"""The same for tensors, block by block: their codec is good at sparse changes."""


def follow(stretch: Aligned, old: Bytes, new: Bytes, kind: ElementType) -> Iterator[Segment]:
    """Yield a stretch: as copies where long runs do not change, else as changes."""
    if not stretch.length:
        return
    mine = new[stretch.new : stretch.new + stretch.length]
    theirs = old[stretch.old : stretch.old + stretch.length]
    runs = _byte_runs(theirs, mine) if kind is ElementType.BYTES else _block_runs(theirs, mine)
    at = 0
    for start, end in runs:
        if at < start:
            yield Change(stretch.old + at, start - at, kind)
        yield Copy(stretch.old + start, end - start)
        at = end
    if at < stretch.length:
        yield Change(stretch.old + at, stretch.length - at, kind)


def _byte_runs(old: Bytes, new: Bytes) -> list[tuple[int, int]]:
    """Return where at least COPY_BYTES are the same, or everything: beginnings and ends."""
    if np.array_equal(old, new):
        return [(0, new.size)]
    edges = np.concatenate([[-1], np.flatnonzero(old != new), [new.size]])
    long = np.flatnonzero(np.diff(edges) > COPY_BYTES)
    return list(zip((edges[long] + 1).tolist(), edges[long + 1].tolist(), strict=True))


def _block_runs(old: Bytes, new: Bytes) -> list[tuple[int, int]]:
    """Return where at least COPY_BLOCKS whole blocks are the same; all, if all is the same."""
    if np.array_equal(old, new):
        return [(0, new.size)]
    whole = new.size // BLOCK_BYTES * BLOCK_BYTES
    differ = (old[:whole] != new[:whole]).reshape(-1, BLOCK_BYTES).any(axis=1)
    edges = np.concatenate([[-1], np.flatnonzero(differ), [differ.size]])
    long = np.flatnonzero(np.diff(edges) > COPY_BLOCKS)
    starts, ends = (edges[long] + 1) * BLOCK_BYTES, edges[long + 1] * BLOCK_BYTES
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def merged(segments: Iterable[Segment]) -> list[Segment]:
    """Return the same plan in fewer segments: neighbours that carry on become one."""
    made: list[Segment] = []
    for segment in segments:
        if segment.length == 0:
            continue
        joint = _joint(made[-1], segment) if made else None
        if joint is None:
            made.append(segment)
        else:
            made[-1] = joint
    return made


def _joint(one: Segment, two: Segment) -> Segment | None:
    """Return two segments as one; None if they do not carry on, or are two tensors' own."""
    length = one.length + two.length
    match one, two:
        case Copy(), Copy() if one.old_offset + one.length == two.old_offset:
            return Copy(one.old_offset, length)
        case Fresh(), Fresh() if one.type is two.type:
            return Fresh(length, one.type)
        case Change(), Change() if (
            one.type is two.type is ElementType.BYTES
            and one.old_offset + one.length == two.old_offset
        ):
            return Change(one.old_offset, length, one.type)
        case _:
            return None
