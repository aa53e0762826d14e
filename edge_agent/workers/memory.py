"""How much memory a process uses, and giving back what this one does not."""

import contextlib
import ctypes
import gc
import os
from pathlib import Path

MIB = 1 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process, or None if it has gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_bytes().split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * _PAGE_BYTES


def trim() -> None:
    """Give free memory back to the system: after a burst of work glibc would keep it for ever."""
    gc.collect()
    # Other C libraries (musl) have no such call, and keep less.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
