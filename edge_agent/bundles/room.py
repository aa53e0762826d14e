"""How much memory decoding may use: what is free now, less what everybody else may still need."""

from pathlib import Path

ROOT = Path("/")
RESERVE_BYTES = 64 << 20
"""Left to the workers, which grow while they infer, and to the kernel."""
DECODER_BYTES = 64 << 20
"""What a decoding process takes before its first byte: Python, numpy, zstandard."""


def for_decoding(root: Path = ROOT) -> int:
    """Return the bytes that a decoder may use beside itself, 0 if there is no room for one.

    `root` is where /proc and /sys are looked for.
    """
    free = [found for found in (_of_machine(root), _of_cgroup(root)) if found is not None]
    return max(0, min(free) - RESERVE_BYTES - DECODER_BYTES) if free else 0


def _of_machine(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _of_cgroup(root: Path) -> int | None:
    """Return what the service's own limit leaves (cgroup v2, systemd's MemoryMax=)."""
    name = next(
        (line[3:] for line in _text(root / "proc/self/cgroup").splitlines() if line[:3] == "0::"),
        None,
    )
    if name is None:
        return None
    group = root / "sys/fs/cgroup" / name.lstrip("/")
    limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
    if not (limit.isdigit() and used.isdigit()):
        return None
    return int(limit) - int(used)


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
