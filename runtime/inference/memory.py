"""How much memory this process has used at its peak."""

import re
from pathlib import Path

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def most_resident_mb() -> float | None:
    """Return the most resident memory that this process ever had, MiB; None: it cannot be known.

    Not getrusage's: after vfork and exec that is the peak of whoever started the process.
    """
    try:
        found = _PEAK.search(Path("/proc/self/status").read_text())
    except OSError:
        return None
    return None if found is None else int(found[1]) / 1024
