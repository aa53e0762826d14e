"""One registry per data directory."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from cloud.errors import ConflictError
from runtime import files


@contextlib.contextmanager
def held(data: Path) -> Iterator[None]:
    """Hold a data directory for this process; raise ConflictError that says who has it.

    The kernel lets go of it when the process ends, however it does.
    """
    path = files.make_directory(data / "run") / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConflictError(
                f"data: {data} is used by another registry, process {who}: "
                "stop it, or give another --data"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
