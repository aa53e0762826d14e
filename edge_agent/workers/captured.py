"""What workers print, kept in files that cannot grow without end."""

import contextlib
import threading
from pathlib import Path

from runtime import files

CAP_BYTES = 1 << 20
LAST_LINE_BYTES = 300


class CappedLog:
    """`path` and, before it, `path.1`: at most twice the cap. Any thread may append."""

    def __init__(self, path: Path, *, cap_bytes: int = CAP_BYTES) -> None:
        """Append to this file; its directory is made if it is missing."""
        self._path, self._cap_bytes = path, cap_bytes
        self._lock = threading.Lock()
        files.make_directory(path.parent)

    def append(self, data: bytes) -> None:
        """Append what was printed; a full disk loses it, and nothing else."""
        with self._lock, contextlib.suppress(OSError):
            # Opened for each write: workers print seldom, and nothing has to be closed.
            with self._path.open("ab") as file:
                file.write(data[-self._cap_bytes :])
                size = file.tell()
            if size >= self._cap_bytes:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))


def last_line(data: bytes) -> str:
    """Return the last line that says something, shortened."""
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip()[:LAST_LINE_BYTES] if lines else ""
