"""What changed between two model files, tensor by tensor, for people to read."""

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from runtime.bundle.delta import match, tensors
from runtime.bundle.delta.longest import Bytes
from runtime.bundle.delta.match import Pair
from runtime.bundle.delta.plan import ElementType, TensorExtent

_SLICE_BYTES = 8 << 20


class State(enum.Enum):
    """What became of a tensor."""

    SAME = "same"
    CHANGED = "changed"
    RESIZED = "resized"
    """Some of its rows are an old tensor's; the differences are theirs."""
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True)
class TensorChange:
    """What became of one tensor."""

    name: str
    """In the new file; of a removed one, in the old file."""
    old_name: str | None
    """Where it came from; None if it was added."""
    type: ElementType
    shape: tuple[int, ...]
    old_shape: tuple[int, ...] | None
    state: State
    largest: float = 0.0
    """The largest difference of two elements that are finite before and after."""
    rms: float = 0.0
    """The root of the mean square of all such differences."""
    share: float = 0.0
    """Of the elements that both have, those whose bytes differ: 0 to 1."""


def compare(
    old: Bytes,
    new: Bytes,
    *,
    old_tensors: Iterable[TensorExtent] | None = None,
    new_tensors: Iterable[TensorExtent] | None = None,
) -> list[TensorChange]:
    """Return what became of each tensor: those of the new file in its order, then the removed.

    For files see tensors.load; the lists as for make.make.
    """
    olds, news = tensors.find_both(old, new, old_tensors, new_tensors)
    matcher = match.Matcher(old, new, olds)
    changes, used = [], set()
    for extent in news:
        pair = matcher.pair(extent) or _namesake(matcher, extent)
        if pair is None:
            kind = (extent.type, extent.shape)
            changes.append(TensorChange(extent.name, None, *kind, None, State.ADDED))
        else:
            used.add(pair.old)
            changes.append(_change(pair, old, new))
    gone = [extent for extent in olds if extent not in used]
    return [*changes, *(_removed(extent) for extent in gone)]


def _namesake(matcher: match.Matcher, new: TensorExtent) -> Pair | None:
    """Pair a tensor that was trained anew with the one whose place it takes."""
    old = matcher.by_name.get(new.name)
    if old is None or (old.type, old.shape) != (new.type, new.shape):
        return None
    return Pair(new, old, 0, 0, new.length)


def _removed(extent: TensorExtent) -> TensorChange:
    return TensorChange(
        extent.name, extent.name, extent.type, extent.shape, extent.shape, State.REMOVED
    )


def _change(pair: Pair, old: Bytes, new: Bytes) -> TensorChange:
    width = pair.new.type.width
    differ = finite = 0
    largest = squares = 0.0
    for at in range(0, pair.length, _SLICE_BYTES):
        length = min(_SLICE_BYTES, pair.length - at)
        mine = match.content(new, pair.new)[pair.at + at :][:length]
        theirs = match.content(old, pair.old)[pair.old_at + at :][:length]
        differ += int((mine != theirs).reshape(-1, width).any(axis=1).sum())
        apart = _apart(theirs, mine, pair.new.type)
        finite += apart.size
        largest = max(largest, float(apart.max(initial=0.0)))
        squares += float(np.square(apart).sum())
    resized = pair.new.shape != pair.old.shape
    state = State.RESIZED if resized else State.CHANGED if differ else State.SAME
    return TensorChange(
        pair.new.name,
        pair.old.name,
        pair.new.type,
        pair.new.shape,
        pair.old.shape,
        state,
        largest,
        math.sqrt(squares / finite) if finite else 0.0,
        differ / (pair.length // width),
    )


def _apart(old: Bytes, new: Bytes, kind: ElementType) -> match.Values:
    """Return how far elements are apart, where both are finite."""
    then, now = match.numbers(old, kind), match.numbers(new, kind)
    both = np.isfinite(then) & np.isfinite(now)
    with np.errstate(over="ignore"):
        apart = np.abs(now[both] - then[both])
    return apart[np.isfinite(apart)]
