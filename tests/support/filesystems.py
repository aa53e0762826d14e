"""File systems that are small enough to fill."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support import parts


@contextlib.contextmanager
def of_size(*, megabytes: int) -> Iterator[Path]:
    """Mount an empty file system of this size; unmount it afterwards."""
    parts.require_root("mounts a small file system")
    with tempfile.TemporaryDirectory(prefix="small-fs-") as name:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", name], check=True
        )
        try:
            yield Path(name)
        finally:
            # Lazily: a process that a test left running must not keep the next test from starting.
            subprocess.run(["umount", "--lazy", name], check=True)
