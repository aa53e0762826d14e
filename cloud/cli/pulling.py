"""A bundle from the registry into a directory, whole or not at all."""

import contextlib
from pathlib import Path

from cloud import shapes
from cloud.cli import progress
from cloud.client import Client
from cloud.client.blobs import Wanted
from runtime import digests, files
from runtime.bundle import index
from runtime.bundle.index import Index
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

_PLAIN, _EXECUTABLE = 0o644, 0o755


def pull(registry: Client, name: str, version: str, directory: Path) -> shapes.Version:
    """Download a version into `directory`, which must be new or empty; return what it is.

    Files are gathered beside it and moved there at the end; a later try goes on with what had
    arrived. Raises InvalidError if something is in the way, IntegrityError if the registry
    sends other bytes than those it named.
    """
    with contextlib.suppress(OSError):
        directory.rmdir()  # succeeds only for an empty one
    if directory.exists() or directory.is_symlink():
        raise InvalidError("output", str(directory), "give a directory that is new or empty")
    found = registry.version(name, version)
    content = registry.index(name, str(found.version))
    if digests.of_bytes(content) != found.bundle:
        raise IntegrityError("index", wanted=found.bundle, got=digests.of_bytes(content))
    gathered = directory.with_name(f".{directory.name}.{found.bundle[:12]}.partial")
    files.make_directory(gathered, mode=0o755)
    _gather(registry, index.decode(content), gathered)
    gathered.rename(directory)
    files.fsync_directory(directory.absolute().parent)
    return found


def _gather(registry: Client, bundle: Index, directory: Path) -> None:
    missing = [
        entry
        for entry in bundle.files
        if not _is_there(directory / files.relative_path(entry.path), entry.sha256)
    ]
    total = sum(entry.size for entry in missing)
    wanted = []
    for entry in missing:
        target = directory / files.relative_path(entry.path)
        files.make_directory(target.parent, mode=0o755)
        mode = _EXECUTABLE if entry.executable else _PLAIN
        wanted.append(Wanted(entry.sha256, entry.size, target, mode))
    with progress.transfer(f"pulling {bundle.name}", total) as advance:
        registry.fetch_blobs(wanted, advance)


def _is_there(path: Path, digest: Digest) -> bool:
    return path.is_file() and digests.of_file(path) == digest
