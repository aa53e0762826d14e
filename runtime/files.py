"""Every durable write but SQLite's own goes through here.

A durable write is: write a temporary file beside the target, fsync it, rename it over the target,
fsync the directory. After a power cut the target is the old one or the new one, never half of one.
`commit_point` is called before each step that a power cut may separate from the next; tests replace
it to cut the power there.
"""

import contextlib
import errno
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from runtime.errors import InvalidError, SpaceError

TEMPORARY_SUFFIX = ".tmp"


def commit_point(step: str, path: Path) -> None:
    """Mark a moment at which the power may fail; does nothing in production."""


def fsync_file(handle: int, path: Path) -> None:
    """Make what was written to an open file durable."""
    commit_point("fsync", path)
    os.fsync(handle)


def fsync_directory(path: Path) -> None:
    """Make a directory's entries durable."""
    commit_point("fsync_directory", path)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(path: Path, *, mode: int = 0o700) -> Path:
    """Create a directory and its parents if they are missing; return it."""
    path.mkdir(parents=True, exist_ok=True, mode=mode)
    return path


@contextlib.contextmanager
def replacing(target: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Open a temporary file that durably becomes `target` when the block ends without an error."""
    # Its own per thread: two that write the same target at once must not write the same file.
    writer = f"{os.getpid()}-{threading.get_ident()}"
    temporary = target.with_name(f".{target.name}.{writer}{TEMPORARY_SUFFIX}")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            fsync_file(file.fileno(), temporary)
        commit_point("rename", target)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    fsync_directory(target.parent)


def write_atomic(target: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Durably replace the content of `target`. The default mode keeps others from reading it."""
    with replacing(target, mode=mode) as file:
        file.write(data)


def write_json(target: Path, value: object, *, mode: int = 0o600) -> None:
    """Durably replace `target` with a value as readable JSON."""
    write_atomic(target, json.dumps(value, indent=2, sort_keys=True).encode() + b"\n", mode=mode)


def remove(path: Path) -> None:
    """Remove a file or a whole directory; nothing there is fine."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    commit_point("remove", path)
    if stat.S_ISDIR(kind):
        shutil.rmtree(path)
    else:
        path.unlink()


def sweep_temporaries(directory: Path) -> None:
    """Remove what interrupted writes left behind in a directory."""
    for leftover in directory.glob(f".*{TEMPORARY_SUFFIX}"):
        remove(leftover)


def free_bytes(path: Path) -> int:
    """Return how many bytes an ordinary process may still write below `path`."""
    seen = os.statvfs(path)
    return seen.f_bavail * seen.f_frsize


def require_space(path: Path, needed_bytes: int) -> None:
    """Raise SpaceError unless `needed_bytes` fit below `path`."""
    free = free_bytes(path)
    if free < needed_bytes:
        raise SpaceError(str(path), needed_bytes=needed_bytes, free_bytes=free)


@contextlib.contextmanager
def explaining_full_disk(path: Path, needed_bytes: int) -> Iterator[None]:
    """Turn the system's "no space left" into SpaceError while writing `needed_bytes` at `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise SpaceError(
            str(path), needed_bytes=needed_bytes, free_bytes=free_bytes(path.parent)
        ) from error


def relative_path(text: str, field: str = "path") -> PurePosixPath:
    """Return a path from outside that stays below where it is put; raise InvalidError otherwise."""
    path = PurePosixPath(text)
    bad = (
        not text
        or "\\" in text
        or "\0" in text
        or path.is_absolute()
        or any(part in {"..", "."} for part in text.split("/"))
        or str(path) != text
    )
    if bad:
        raise InvalidError(field, text, "give a relative path without '.', '..' or '\\'")
    return path
