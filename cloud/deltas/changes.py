"""What became of a bundle's files, and of what its model takes and gives. Pure."""

from collections.abc import Iterator

from cloud import shapes
from cloud.deltas import costs
from runtime.bundle.index import FileEntry, Index, TensorSpec
from runtime.digests import Digest

ONNX_SUFFIX = ".onnx"


def needed(old: Index, new: Index) -> dict[Digest, int]:
    """Return the blobs that have to be looked at, with their sizes."""
    wanted = {entry.sha256: entry.size for entry in new.files}
    wanted |= dict(costs.bases(old, new))
    for now, then in pairs(old, new):
        if then is not None and now.sha256 != then.sha256:
            wanted[then.sha256] = then.size
    for entry in old.files:
        if entry.path.endswith(ONNX_SUFFIX):  # it may say what lies in the files beside it
            wanted[entry.sha256] = entry.size
    return wanted


def pairs(old: Index, new: Index) -> list[tuple[FileEntry, FileEntry | None]]:
    """Return each new file with the old one that it takes the place of.

    That is the one at its path, else one with its content, else the model where the new file is a
    model too.
    """
    by_path = {entry.path: entry for entry in old.files}
    by_blob = {entry.sha256: entry for entry in old.files}
    gone = set(by_path) - {entry.path for entry in new.files}
    models = sorted(costs.models(old) & gone)
    found: list[tuple[FileEntry, FileEntry | None]] = []
    for entry in new.files:
        then = by_path.get(entry.path) or by_blob.get(entry.sha256)
        if then is None and models and entry.path in costs.models(new):
            then = by_path[models.pop(0)]
        found.append((entry, then))
    return found


def files(old: Index, new: Index) -> Iterator[shapes.FileDiff]:
    """Yield what became of each file: the new bundle's, then those that were removed."""
    there = {entry.path for entry in new.files}
    moved = set()
    for now, then in pairs(old, new):
        if then is None:
            state, old_path, old_size = "added", None, None
        else:
            moved.add(then.path)
            old_path, old_size = then.path, then.size
            state = "renamed" if then.path != now.path else "same"
            state = state if then.sha256 == now.sha256 else "changed"
        yield shapes.FileDiff(
            path=now.path,
            old_path=old_path,
            state=state,
            size_bytes=now.size,
            old_size_bytes=old_size,
        )
    for entry in old.files:
        if entry.path not in there and entry.path not in moved:
            yield shapes.FileDiff(
                path=entry.path,
                old_path=entry.path,
                state="removed",
                size_bytes=None,
                old_size_bytes=entry.size,
            )


def signature(old: Index, new: Index) -> Iterator[shapes.SignatureDiff]:
    """Yield the inputs and outputs that are not what they were."""
    for side, then, now in (
        ("input", old.signature.inputs, new.signature.inputs),
        ("output", old.signature.outputs, new.signature.outputs),
    ):
        before = {spec.name: _written(spec) for spec in then}
        after = {spec.name: _written(spec) for spec in now}
        for name in dict.fromkeys((*before, *after)):
            if before.get(name) != after.get(name):
                yield shapes.SignatureDiff(
                    side=side, name=name, old=before.get(name), new=after.get(name)
                )


def _written(spec: TensorSpec) -> str:
    return f"{spec.datatype}[{','.join(map(str, spec.shape))}]"
