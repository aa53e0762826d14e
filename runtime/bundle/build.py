"""From an author's directory to a bundle: list it, read the model's signature, check the check.

A bundle is its directory: every file in it belongs to it, so a model's external data, a script's
modules and its tables come along without being named. Only what editors and Python leave behind
does not belong: names that start with '.', `__pycache__`, and `*.pyc`. Symbolic links to files are
followed. The identity depends on paths, executable bits and contents, and on nothing else.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from runtime import digests, files
from runtime.bundle import arrays, ensemble, index, onnxfile, pickles, policy, requirements
from runtime.bundle.containers import Pin
from runtime.bundle.ensemblesource import StepSource
from runtime.bundle.index import Check, FileEntry, Index, Signature, Step, Uses, Variant
from runtime.bundle.source import SOURCE_NAME, Source, read_source
from runtime.digests import Digest
from runtime.errors import InvalidError, ModelError


@dataclass(frozen=True)
class Built:
    """A bundle that is ready to be stored."""

    index: Index
    index_bytes: bytes
    digest: Digest
    """Of the index: the bundle's identity."""
    files: dict[Digest, Path]
    """Where each blob's bytes lie now; the index itself is not among them."""


def build(directory: Path, uses: Mapping[str, Uses] | None = None, pin: Pin | None = None) -> Built:
    """Return the bundle that a directory makes.

    `uses` says of an ensemble's steps which registered version each was taken from, `pin` which
    digests tags of images stand for. Raises InvalidError naming the field of bundle.yaml, or the
    file, that is missing or wrong.
    """
    source = read_source(directory, pin)
    found = {path: directory / path for path in _paths(directory)}
    _require_named(source, found)
    entries = {path: _entry(path, place) for path, place in sorted(found.items())}
    steps = tuple(_step(directory, step) for step in source.steps)
    signature = _signature(source, found, steps)
    for check in (source.check, *(each.check for each in source.variants)):
        _require_check(check, signature, found)
    variants, only = _variants(source, signature, found)
    scripted = source.entry or any(step.index.entry for step in steps)
    made = Index(
        format=index.FORMAT,
        name=source.name,
        kind=source.kind,
        model=source.model,
        files=tuple(entries.values()),
        signature=signature,
        requirements=_requirements(source, found),
        needs=(policy.PICKLE,) if scripted and pickles.find_below(directory, found) else (),
        uses=tuple(uses[step.name] for step in source.steps if uses and step.name in uses),
        variants=variants,
        only=only,
        steps=steps,
        **{name: getattr(source, name) for name in _AS_WRITTEN},
    )
    # Read back, so that nothing is registered that a device would refuse. And so that all empty
    # tuples are the one that counts as left out: Python 3.10 makes others, and another identity.
    made = index.decode(index.encode(made))
    index_bytes = index.encode(made)
    blobs = {entry.sha256: found[path] for path, entry in entries.items()}
    return Built(made, index_bytes, digests.of_bytes(index_bytes), blobs)


_AS_WRITTEN = (
    "entry", "check", "resources", "sources", "tags", "description", "metadata", "card",
    "providers", "outputs", "batching", "container",
)  # fmt: skip
"""What the index says as the author wrote it."""


def _paths(directory: Path) -> Iterator[str]:
    """Yield the path of every file that belongs to the bundle."""
    for parent, directories, names in os.walk(directory, onerror=_unreadable):
        directories[:] = [name for name in directories if _belongs(name)]
        for name in directories:
            if (Path(parent) / name).is_symlink():
                raise InvalidError(
                    "files", name, "a link to a directory is not followed: put the files here"
                )
        for name in filter(_belongs, names):
            yield _relative(Path(parent) / name, directory)


def _belongs(name: str) -> bool:
    return not name.startswith(".") and name != "__pycache__" and not name.endswith(".pyc")


def _relative(path: Path, directory: Path) -> str:
    text = PurePosixPath(path.relative_to(directory)).as_posix()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidError("files", text, "rename it: a path must be UTF-8") from error
    return str(files.relative_path(text, "files"))


def _unreadable(error: OSError) -> None:
    raise InvalidError("files", str(error.filename), error.strerror or "make it readable")


def _require_named(source: Source, found: dict[str, Path]) -> None:
    """Raise InvalidError unless each file that bundle.yaml names is in the bundle."""
    checks = [("check", source.check)]
    checks += [(f"variants[{each.name}].check", each.check) for each in source.variants]
    for field, path in (
        ("model", source.model),
        ("entry", source.entry),
        *((f"variants[{each.name}].model", each.model) for each in source.variants),
        *((f"{name}.inputs", check.inputs) for name, check in checks if check),
        *((f"{name}.outputs", check.outputs) for name, check in checks if check),
        ("requirements", source.requirements),
        ("card", source.card),
    ):
        if path and path not in found:
            hidden = any(not _belongs(part) for part in path.split("/"))
            fix = (
                "choose a name that does not start with '.': hidden files are left out"
                if hidden
                else f"there is no such file beside {SOURCE_NAME}"
            )
            raise InvalidError(field, path, fix)


def _entry(path: str, place: Path) -> FileEntry:
    """Return a file as the index lists it, read once."""
    try:
        status = place.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InvalidError("files", path, "only files and directories can be in a bundle")
        size, sha256 = 0, hashlib.sha256()
        with place.open("rb") as file:
            for chunk in digests.chunks(file):
                size += len(chunk)
                sha256.update(chunk)
    except OSError as error:
        raise InvalidError("files", path, f"{error.strerror}: make it readable") from error
    executable = bool(status.st_mode & stat.S_IXUSR)
    return FileEntry(path, size, Digest(sha256.hexdigest()), executable=executable)


def _step(directory: Path, step: StepSource) -> Step:
    """Return a step, built as a bundle of its own."""
    place = directory / step.directory
    field = f"ensemble.steps[{step.name}]"
    if not (place / SOURCE_NAME).is_file():
        fix = (
            f"there is no bundle at {step.directory}"
            if step.use is None
            else f"`packhorse models push` fetches it into {step.directory}"
        )
        raise InvalidError(field, step.directory, fix)
    try:
        own = build(place).index
    except InvalidError as error:
        raise InvalidError(f"{field}.{error.field}", error.value, error.fix) from error
    if own.kind == "ensemble":
        raise InvalidError(field, own.name, "it is an ensemble: list its steps here instead")
    if own.kind == "container":
        raise InvalidError(field, own.name, "it is no model: deploy it as a module of its own")
    # What concerns a bundle that is deployed by itself says nothing here.
    bare = msgspec.structs.replace(own, files=(), check=None, sources=(), variants=(), only=())
    bare = msgspec.structs.replace(bare, batching=None)
    return Step(step.name, step.directory, bare, step.inputs)


def _require_check(check: Check | None, signature: Signature, found: dict[str, Path]) -> None:
    """Raise InvalidError unless a check's arrays are what the model takes and gives."""
    if check is not None:
        arrays.require_inputs(found[check.inputs], signature)
        if check.outputs is not None:
            arrays.require_outputs(found[check.outputs], signature)


def _variants(
    source: Source, signature: Signature, found: dict[str, Path]
) -> tuple[tuple[Variant, ...], tuple[str, ...]]:
    """Return the variants with the paths that each alone needs, and those of the top level."""
    if not source.variants:
        return (), ()
    for each in source.variants:
        own = _graph_signature(each.model, found)
        if own != signature:
            raise InvalidError(
                f"variants[{each.name}].model", each.model, "it must take and give the same"
            )
    needed = [
        {path, *onnxfile.external_data(found[path], path), *_named_by(check or source.check)}
        for path, check in (
            (source.model, source.check),
            *((each.model, each.check) for each in source.variants),
        )
    ]
    alone = [
        tuple(sorted(paths.difference(*needed[:number], *needed[number + 1 :])))
        for number, paths in enumerate(needed)
    ]
    made = (
        msgspec.structs.replace(each, only=only)
        for each, only in zip(source.variants, alone[1:], strict=True)
    )
    return tuple(made), alone[0]


def _named_by(check: Check | None) -> set[str]:
    return set() if check is None else {check.inputs, check.outputs or check.inputs}


def _signature(source: Source, found: dict[str, Path], steps: tuple[Step, ...]) -> Signature:
    """Return what the author says, what the graph says, or what the check's arrays show."""
    if source.kind == "ensemble":
        nodes = [ensemble.Node(step.name, step.inputs, step.index.signature) for step in steps]
        # In the order of the index's canonical JSON, from which every reader wires them again.
        return ensemble.wire(nodes, dict(sorted(source.outputs.items()))).signature
    if source.kind == "container":
        return Signature(inputs=(), outputs=())
    if source.kind == "onnx":
        return _graph_signature(source.model, found)
    if source.signature is not None:
        return source.signature
    check = source.check
    if check is None or check.outputs is None:
        raise InvalidError(
            "signature", None, "write signature:, or name check.inputs and check.outputs to read it"
        )
    return Signature(
        inputs=arrays.specs(found[check.inputs], "check.inputs"),
        outputs=arrays.specs(found[check.outputs], "check.outputs"),
    )


def _graph_signature(path: str, found: dict[str, Path]) -> Signature:
    # Lazily: who only reads or stores bundles needs no onnxruntime.
    from runtime.inference.session import Session  # noqa: PLC0415

    weights = onnxfile.external_data(found[path], path)
    for needed in weights:
        _require_beside(path, needed, found)
    with _without_links(path, {each: found[each] for each in (path, *weights)}) as place:
        try:
            return Session(place).signature
        except ModelError as error:
            raise InvalidError("model", path, str(error)) from error


@contextlib.contextmanager
def _without_links(path: str, needed: dict[str, Path]) -> Iterator[Path]:
    """Give a place where the model has its weights beside it as files, as a device has them.

    onnxruntime refuses weights that are links to another directory, as a cache of models has them.
    """
    if not any(place.is_symlink() for place in needed.values()):
        yield needed[path]
        return
    with tempfile.TemporaryDirectory(prefix="packhorse-") as made:
        for name, place in needed.items():
            staged = files.make_directory((Path(made) / name).parent) / Path(name).name
            try:
                os.link(place.resolve(), staged)
            except OSError:  # another file system
                shutil.copyfile(place, staged)
        yield Path(made) / path


def _require_beside(path: str, needed: str, found: dict[str, Path]) -> None:
    """Raise InvalidError unless a file of weights is in the bundle, and loads from there."""
    if any(not _belongs(part) for part in needed.split("/")):
        fix = f"it needs {needed}: hidden files are left out, rename it and export again"
        raise InvalidError("model", path, fix)
    if needed not in found:
        raise InvalidError("model", path, f"it needs {needed}, which is not there")


def _requirements(source: Source, found: dict[str, Path]) -> tuple[str, ...]:
    return requirements.read(found[source.requirements]) if source.requirements else ()
