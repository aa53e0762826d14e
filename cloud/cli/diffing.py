"""`packhorse models diff`: what lies between two versions, and what the update costs."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import building, completing, login, output, progress, words
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from cloud import shapes
    from cloud.deltas.diff import Side

EXACT_S = 60.0
"""So long, encodings of local bundles are made to be measured; then they are estimated."""

A = Annotated[
    str, typer.Argument(metavar="A", autocompletion=completing.models, help="The older one.")
]
B = Annotated[
    str, typer.Argument(metavar="B", autocompletion=completing.models, help="The newer one.")
]


def diff(
    old: A,
    new: B,
    *,
    all_: Annotated[
        bool, typer.Option("--all", help="Show files and tensors that are the same, too.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Show what changed from A to B, tensor by tensor, and what the update costs devices.

    A and B are NAME, NAME:VERSION or NAME@ALIAS; or two bundle directories, written with a "/"
    (./model), which are compared without a registry.
    """
    local = [_is_directory(text) for text in (old, new)]
    if all(local):
        found = _local(Path(old), Path(new))
    elif any(local):
        fix = "compare two versions or two directories: `packhorse models pull` gets one"
        raise InvalidError("B", new, fix)
    else:
        found = _registered(old, new)
    output.as_json(found) if json else _show(found, show_same=all_)


def _is_directory(text: str) -> bool:
    """Say whether a path is meant: no model's name has a "/" or is "."."""
    return "/" in text or text in {".", ".."}


def _registered(old: str, new: str) -> "shapes.Diff":
    for text in (old, new):
        name, version = words.reference(text)
        if Path(name).is_dir():
            output.say(f"{name} is the model of this name; ./{name} would be the directory.")
    (name, version), (other, its) = words.reference(old), words.reference(new)
    with login.client() as registry, progress.working(f"comparing {old} and {new}"):
        return registry.diff(name, version, f"{other}:{its}")


def _local(old: Path, new: Path) -> "shapes.Diff":
    from cloud.deltas import comparison

    with (
        tempfile.TemporaryDirectory(prefix="packhorse-") as scratch,
        _side(old, Path(scratch) / "old") as then,
        _side(new, Path(scratch) / "new") as now,
        progress.working(f"comparing {old} and {new}"),
    ):
        return comparison.compare(then, now, Path(scratch), seconds=EXACT_S)


@contextlib.contextmanager
def _side(directory: Path, index_file: Path) -> "Iterator[Side]":
    """Give a bundle directory as one side; its index is written to a file."""
    from cloud.deltas.diff import Side

    with building.built(directory) as made:
        index_file.write_bytes(made.index_bytes)
        places = {**made.files, made.digest: index_file}
        yield Side(str(directory), made.digest, made.index, places)


def _show(found: "shapes.Diff", *, show_same: bool) -> None:
    output.facts([("from", output.plain(found.old)), ("to", output.plain(found.new))])
    if found.old_bundle == found.new_bundle:
        output.say("The bundles are the same.")
    _show_files(found, show_same=show_same)
    rows = [(each.side, each.name, each.old or "", each.new or "") for each in found.signature]
    output.show(("signature", "name", "was", "is"), rows, none="The signature is the same.")
    _show_tensors(found, show_same=show_same)
    _show_costs(found)


def _show_files(found: "shapes.Diff", *, show_same: bool) -> None:
    rows = [
        (
            each.path,
            each.state,
            each.old_path if each.old_path and each.old_path != each.path else "",
            "" if each.old_size_bytes is None else output.size(each.old_size_bytes),
            "" if each.size_bytes is None else output.size(each.size_bytes),
        )
        for each in found.files
        if show_same or each.state != "same"
    ]
    output.show(("file", "state", "from", "was", "is"), rows, none="All files are the same.")


def _show_tensors(found: "shapes.Diff", *, show_same: bool) -> None:
    rows = [
        _tensor(each)
        for each in found.tensors
        if show_same or each.state != "same" or each.name != each.old_name
    ]
    columns = ("tensor", "state", "from", "type", "shape", "changed", "largest", "rms")
    output.show(columns, rows, none="No file changed whose tensors are known.")
    counts = [f"{count} {state}" for state, count in sorted(found.tensor_counts.items())]
    if counts:
        more = "; not all are shown" if found.truncated else ""
        output.result(f"tensors in changed files: {', '.join(counts)}{more}")


def _tensor(each: "shapes.TensorDiff") -> tuple[str, ...]:
    shape = _shape(each.shape)
    if each.old_shape is not None and each.old_shape != each.shape:
        shape = f"{_shape(each.old_shape)} to {shape}"
    apart = each.state in {"changed", "resized"}
    return (
        each.name,
        each.state,
        each.old_name if each.old_name and each.old_name != each.name else "",
        each.type,
        shape,
        f"{100 * each.share:.3g} %" if apart else "",
        f"{each.largest:.3g}" if apart else "",
        f"{each.rms:.3g}" if apart else "",
    )


def _shape(shape: list[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _show_costs(found: "shapes.Diff") -> None:
    rows = [
        (
            each.variant,
            each.holds or "nothing",
            each.encodings,
            ("about " if each.estimated else "") + output.size(each.bytes),
            str(each.bytes),
            f"{each.blobs}, {each.deltas} as deltas",
        )
        for each in found.costs
    ]
    columns = ("variant", "holds", "encodings", "update", "bytes", "files")
    output.show(columns, rows, none="")
