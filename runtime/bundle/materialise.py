"""From blobs to a directory that a worker can run.

    target/<path of each file>   hard links to the blobs, so that a version costs no second copy
    target/.index.json           the index, by which a worker knows what it has

The directory appears whole or not at all.
"""

import contextlib
import os
import shutil
from pathlib import Path

from runtime import digests, files
from runtime.bundle.blobs import READ_ONLY, BlobStore
from runtime.bundle.index import FileEntry, Index
from runtime.errors import IntegrityError, InvalidError

INDEX_NAME = ".index.json"
EXECUTABLE = 0o500


def materialise(index: Index, index_bytes: bytes, blobs: BlobStore, target: Path) -> None:
    """Durably make `target` hold a bundle; do nothing if it does already.

    Raises IntegrityError if a blob is missing or has another size than the index says (fetch it
    again), InvalidError if the index lists what no directory can hold, SpaceError if the disk is
    full.
    """
    if is_materialised(index_bytes, target):
        return
    files.make_directory(target.parent)
    staging = target.with_name(f".{target.name}.{os.getpid()}{files.TEMPORARY_SUFFIX}")
    files.remove(staging)
    try:
        with files.explaining_full_disk(staging, sum(entry.size for entry in index.files)):
            _fill(staging, index, index_bytes, blobs)
        files.remove(target)
        files.commit_point("rename", target)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    files.fsync_directory(target.parent)


def is_materialised(index_bytes: bytes, target: Path) -> bool:
    """Say whether `target` is the directory of just this bundle."""
    try:
        return (target / INDEX_NAME).read_bytes() == index_bytes
    except FileNotFoundError:
        return False


def _fill(staging: Path, index: Index, index_bytes: bytes, blobs: BlobStore) -> None:
    files.make_directory(staging)
    directories = {staging}
    for entry in index.files:
        path = staging / files.relative_path(entry.path, "files.path")
        if entry.path == INDEX_NAME:
            raise InvalidError("files.path", entry.path, "this name is Packhorse's own")
        directories.update(parent for parent in path.parents if parent.is_relative_to(staging))
        try:
            files.make_directory(path.parent)
            _place(entry, blobs, path)
        except (FileExistsError, NotADirectoryError) as error:
            raise InvalidError(
                "files.path", entry.path, "another file has this path or a part of it"
            ) from error
    files.write_atomic(staging / INDEX_NAME, index_bytes)
    for directory in directories:
        files.fsync_directory(directory)


def _place(entry: FileEntry, blobs: BlobStore, path: Path) -> None:
    """Put one file in its place."""
    digest = digests.parse(entry.sha256, f"files[{entry.path}].sha256")
    got = blobs.size(digest) if blobs.has(digest) else None
    if got != entry.size:
        raise IntegrityError(
            f"blob of {entry.path}",
            wanted=f"{entry.size} bytes",
            got="nothing" if got is None else f"{got} bytes",
        )
    if not entry.executable:
        # File systems without links (FAT), other mounts and too many links: copy instead.
        with contextlib.suppress(OSError):
            os.link(blobs.path(digest), path)
            return
    if path.exists():
        raise FileExistsError(path)
    # Links share their mode, so a file that can be executed is always a copy.
    mode = EXECUTABLE if entry.executable else READ_ONLY
    with blobs.open(digest) as source, files.replacing(path, mode=mode) as copy:
        shutil.copyfileobj(source, copy, digests.CHUNK_BYTES)
