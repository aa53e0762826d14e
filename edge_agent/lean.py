"""Keeping the supervisor small: what is done before anything large is imported.

Measured on x86-64 with CPython 3.11: msgspec takes type hints from typing_extensions where that is
installed and from typing where it is not; the former alone costs 3.6 MB of resident memory. glibc
gives each thread an arena of its own; one for all saves about 1 MB with the agent's eight threads.
"""

import contextlib
import ctypes
import sys
from types import ModuleType
from typing import cast

_M_ARENA_MAX = -8
"""Of glibc's <malloc.h>."""


def prepare() -> None:
    """Make this process one that stays small; call it first in the process."""
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    modules.setdefault("typing_extensions", None)  # makes its import an ImportError
    # Other C libraries (musl) have no such call, and keep less.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
