"""What glibc keeps of freed memory, and when it gives it back. Elsewhere these do nothing."""

import ctypes
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Options of mallopt(3)."""
KEPT_BLOCK_BYTES = 16 << 20
KEPT_BYTES = 32 << 20


def give_back() -> None:
    """Return freed memory to the system: without this the allocator keeps a model's weights."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def keep() -> None:
    """Have what one job has used serve the next, instead of fetching it anew from the kernel."""
    option = _of_glibc("mallopt")
    if option is not None:
        option(_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
        option(_TRIM_THRESHOLD, KEPT_BYTES)


def _of_glibc(name: str) -> Any:
    """Return a function of the C library; None: it is another library, which has no such thing."""
    return getattr(ctypes.CDLL(None), name, None)
