"""One process per data directory: two would tear each other's files."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from runtime import files
from runtime.errors import InUseError


@contextlib.contextmanager
def held(data: Path, *, mode: int = 0o700) -> Iterator[None]:
    """Hold a data directory while the block runs; raise InUseError if another process does.

    The lock is in `{data}/run`, which is made with `mode` if it is missing. The kernel lets go of
    it however this process ends.
    """
    path = files.make_directory(data / "run", mode=mode) / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
            raise InUseError(str(data), pid) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(handle)
