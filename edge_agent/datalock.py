"""At most one agent works in a data directory."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from edge_agent.errors import AlreadyRunningError
from runtime import files


@contextlib.contextmanager
def held(data: Path) -> Iterator[None]:
    """Hold the directory while the block runs; raise AlreadyRunningError if another agent does.

    The kernel lets go of it however this process ends.
    """
    path = files.make_directory(data / "run", mode=0o750) / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
            raise AlreadyRunningError(data, pid) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(handle)
