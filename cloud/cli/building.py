"""How a PATH becomes a bundle, for the commands that take one; and `packhorse models init`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import gathering, output

if TYPE_CHECKING:
    from cloud.importing.opening import Opened
    from runtime.bundle.build import Built
    from runtime.bundle.index import Index, TensorSpec

MLFLOW_RUN = "mlflow.run_id"
"""Metadata of an imported model that says in which run it was trained."""

PathArgument = Annotated[
    Path,
    typer.Argument(
        help="A directory with a bundle.yaml, an MLflow model directory, or a model file:"
        " .onnx, XGBoost's .ubj or .json, LightGBM's .txt."
    ),
]
Name = Annotated[
    str | None,
    typer.Option(help="What to call a model that has no bundle.yaml; else its file's name."),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        help="pickle: load what runs code, to learn what an imported model answers to its example."
    ),
]

Resolve = Annotated[
    bool,
    typer.Option(
        "--resolve/--no-resolve",
        help="Ask image registries for the digests of images that are named by tag; else refuse.",
    ),
]


@contextlib.contextmanager
def built(
    path: Path,
    name: str | None = None,
    allow: list[str] | None = None,
    *,
    resolve: bool = True,
) -> "Iterator[Built]":
    """Give the bundle at a path, built; tell what had to be written for it, and what tags mean."""
    from cloud.cli import pinning
    from cloud.importing import opening
    from runtime.bundle import build, policy

    allowed = policy.parse(allow or (), "--allow")
    with (
        opening.opened(path, name, allowed) as found,
        gathering.gathered(found.directory) as (directory, uses),
    ):
        made = build.build(directory, uses, pinning.pin if resolve else None)
        tell(found)
        yield made


@contextlib.contextmanager
def laid_out(
    path: Path, name: str | None = None, allow: list[str] | None = None
) -> "Iterator[tuple[Built, tuple[Path, Index]]]":
    """Give the bundle at a path, built, and its files as a worker has them, with its index."""
    from cloud.verification import here

    with built(path, name, allow) as made, here.laid_out(made) as target:
        yield made, (target, made.index)


def tell(found: "Opened") -> None:
    """Say what was written, and what a person should know of it."""
    if found.written:
        output.say(f"bundle.yaml, written for it:\n\n{_indented(found.written)}")
    for note in found.notes:
        output.say(f"note: {note}")


def init(
    path: PathArgument,
    directory: Annotated[Path, typer.Option("--output", "-o", help="A new directory.")],
    *,
    name: Name = None,
    allow: Allow = None,
) -> None:
    """Write a bundle of an MLflow model or a model file to a directory, to go on from there."""
    from cloud.importing import opening
    from runtime import files
    from runtime.bundle import build, policy
    from runtime.errors import InvalidError

    allowed = policy.parse(allow or (), "--allow")
    if (path / "bundle.yaml").exists():
        raise InvalidError("path", str(path), "it is a bundle already")
    if directory.exists():
        raise InvalidError("--output", str(directory), "name a directory that is not there yet")
    made = directory.with_name(f".{directory.name}{files.TEMPORARY_SUFFIX}")
    files.remove(made)
    try:
        files.make_directory(made, mode=0o755)
        found = opening.write(path, made, name, allowed)
        index = build.build(made).index
        made.rename(directory)
    except BaseException:
        files.remove(made)
        raise
    tell(found)
    output.say(f"Now: packhorse models check {directory}; packhorse models push {directory}")
    output.result(f"{index.name} in {directory}")


def facts(index: "Index") -> list[tuple[str, str]]:
    """Return what an index says of its model, for a person."""
    from runtime.bundle import policy

    return [
        ("kind", index.kind),
        ("files", f"{len(index.files)}, {output.size(sum(e.size for e in index.files))}"),
        ("inputs", _tensors(index.signature.inputs)),
        ("outputs", _tensors(index.signature.outputs)),
        ("entry", index.entry or "none"),
        ("needs", ", ".join(policy.needs(index)) or "nothing but data"),
        ("requirements", ", ".join(index.requirements) or "none"),
        ("check", index.check.inputs if index.check else "none"),
        ("sources", ", ".join(index.sources) or "none"),
    ]


def _tensors(specs: "tuple[TensorSpec, ...]") -> str:
    return ", ".join(f"{each.name} {each.datatype}{list(each.shape)}" for each in specs)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
