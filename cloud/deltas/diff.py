"""What lies between two bundles: by file, by tensor, by what the model takes and gives.

The same for two versions in the registry (in a child of cloud.deltas.differ) and two directories.
"""

import collections
import posixpath
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cloud import shapes
from cloud.deltas import changes, costs
from cloud.deltas.costs import Costs
from runtime.bundle.delta import compare, detect, tensors
from runtime.bundle.delta.compare import State, TensorChange
from runtime.bundle.delta.plan import TensorExtent
from runtime.bundle.index import Index
from runtime.digests import Digest

MAX_TENSORS = 5000
"""Listed at most; those that are the same are left out first."""
MAX_NAME_CHARS = 256
"""Of a tensor's name, which is whatever its file says."""

Extents = Mapping[str, tuple[TensorExtent, ...]]
"""By path in the bundle: tensors that another file says lie there."""


@dataclass(frozen=True)
class Side:
    """One of the two bundles."""

    label: str
    bundle: Digest
    index: Index
    places: Mapping[Digest, Path]
    """Where blobs lie: those of `changes.needed` at least, and the new index."""


def diff(old: Side, new: Side, known: Costs) -> shapes.Diff:
    """Return all that is to be said; `known` knows sizes, or finds them out."""
    found = list(_tensors(old, new))
    moved = [each for each in found if each.state != State.SAME.value]
    listed = found if len(found) <= MAX_TENSORS else moved[:MAX_TENSORS]
    return shapes.Diff(
        old=old.label,
        new=new.label,
        old_bundle=old.bundle,
        new_bundle=new.bundle,
        files=list(changes.files(old.index, new.index)),
        signature=list(changes.signature(old.index, new.index)),
        tensors=listed,
        tensor_counts=dict(collections.Counter(each.state for each in found)),
        truncated=len(listed) < len(found),
        costs=costs.table(old, new, known),
    )


def _tensors(old: Side, new: Side) -> Iterator[shapes.TensorDiff]:
    """Yield what became of the tensors of each file that changed and that tells what is in it."""
    changed = [
        (now, then)
        for now, then in changes.pairs(old.index, new.index)
        if then is not None and now.sha256 != then.sha256
    ]
    if not changed:
        return
    olds, news = outside(old), outside(new)
    for now, then in changed:
        data = tensors.load(new.places[now.sha256])
        if all(map(tensors.is_guess, tensors.find(data, news.get(now.path)))):
            continue
        found = compare.compare(
            tensors.load(old.places[then.sha256]),
            data,
            old_tensors=olds.get(then.path),
            new_tensors=news.get(now.path),
        )
        for change in found:
            if not change.name.startswith(detect.name(0)[0]):
                path = then.path if change.state is State.REMOVED else now.path
                yield _shown(path, change)


def outside(side: Side) -> Extents:
    """Return what a bundle's ONNX files say of the files beside them."""
    found: dict[str, tuple[TensorExtent, ...]] = {}
    for entry in side.index.files:
        if not entry.path.endswith(changes.ONNX_SUFFIX) or entry.sha256 not in side.places:
            continue
        for location, extents in tensors.external(tensors.load(side.places[entry.sha256])).items():
            # Only ever looked up among the bundle's own paths, never opened.
            path = posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), location))
            found[path] = found.get(path, ()) + extents
    return found


def _shown(path: str, change: TensorChange) -> shapes.TensorDiff:
    return shapes.TensorDiff(
        file=path,
        name=change.name[:MAX_NAME_CHARS],
        old_name=None if change.old_name is None else change.old_name[:MAX_NAME_CHARS],
        type=change.type.value,
        shape=list(change.shape),
        old_shape=None if change.old_shape is None else list(change.old_shape),
        state=change.state.value,
        share=change.share,
        # JSON has no infinity; squares of numbers near the end of float64 may get there.
        largest=min(change.largest, sys.float_info.max),
        rms=min(change.rms, sys.float_info.max),
    )
