"""From an author's directory to a bundle: list it, read the model's signature, check the check.

A bundle is its directory: every file in it belongs to it, so a model's external data, a script's
modules and its tables come along without being named. Only what editors and Python leave behind
does not belong: names that start with '.', `__pycache__`, and `*.pyc`. Symbolic links to files are
followed. The identity depends on paths, executable bits and contents, and on nothing else.
"""

import hashlib
import mmap
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runtime import digests, files
from runtime.bundle import arrays, index
from runtime.bundle.index import FileEntry, Index, Signature
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


def build(directory: Path) -> Built:
    """Return the bundle that a directory makes.

    Raises InvalidError naming the field of bundle.yaml, or the file, that is missing or wrong.
    """
    source = read_source(directory)
    found = {path: directory / path for path in _paths(directory)}
    _require_named(source, found)
    entries, blobs = [], {}
    for path, place in sorted(found.items()):
        entry = _entry(path, place)
        entries.append(entry)
        blobs[entry.sha256] = place
    signature = _signature(source.model, found[source.model])
    _require_no_hidden_data(source.model, found[source.model])
    if source.check is not None:
        arrays.require_inputs(found[source.check.inputs], signature)
        if source.check.outputs is not None:
            arrays.require_outputs(found[source.check.outputs], signature)
    made = Index(
        format=index.FORMAT,
        name=source.name,
        kind="onnx",
        model=source.model,
        files=tuple(entries),
        signature=signature,
        entry=source.entry,
        check=source.check,
        resources=source.resources,
        sources=source.sources,
        tags=source.tags,
        description=source.description,
    )
    index_bytes = index.encode(made)
    # Read back, so that nothing is registered that a device would refuse.
    return Built(index.decode(index_bytes), index_bytes, digests.of_bytes(index_bytes), blobs)


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
    check = source.check
    for field, path in (
        ("model", source.model),
        ("entry", source.entry),
        ("check.inputs", check and check.inputs),
        ("check.outputs", check and check.outputs),
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


def _signature(path: str, place: Path) -> Signature:
    # Lazily: who only reads or stores bundles needs no onnxruntime.
    from runtime.inference.session import Session  # noqa: PLC0415

    try:
        return Session(place).signature
    except ModelError as error:
        raise InvalidError("model", path, str(error)) from error


def _require_no_hidden_data(path: str, place: Path) -> None:
    """Raise InvalidError if the model refers to a file beside it that is left out.

    It loads here, and would not on a device. The format keeps such names as plain text.
    """
    left_out = [other.name for other in place.parent.iterdir() if not _belongs(other.name)]
    with place.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as model:
        for name in left_out:
            if model.find(os.fsencode(name)) >= 0:
                raise InvalidError(
                    "model", path, f"it needs {name}: hidden files are left out, rename it"
                )
