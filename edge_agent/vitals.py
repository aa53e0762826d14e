"""How a device is doing, and what a person should look at."""

import os
import time
from pathlib import Path

from edge_agent.workers.memory import MIB, resident_bytes
from runtime import clock, files

ROOT = Path("/")
DAY_S = 86_400.0
WARN_BEFORE_S = 30 * DAY_S


def collect(data: Path, root: Path = ROOT) -> dict[str, float]:
    """Return what can be measured of load, memory, disk and temperature; what cannot is left out.

    `data` is the agent's directory; `root` is where /proc and /sys are looked for.
    """
    vitals = {
        "load_1m": _load(),
        "memory_free_mb": _memory_free_mb(root),
        "disk_free_mb": _disk_free_mb(data),
        "temperature_c": _temperature_c(root),
        "agent_rss_mb": _own_memory_mb(),
    }
    return {name: round(value, 2) for name, value in vitals.items() if value is not None}


def troubles(
    data: Path, *, now: float, reserve_mb: int, certificate_not_after: float | None
) -> list[str]:
    """Return what is wrong with the device itself, one sentence with what to do for each."""
    found = []
    if not clock.plausible(now):
        found.append(
            f"clock: reads {_iso(now)}, set the time or enable NTP;"
            " inference goes on, records carry the device's time"
        )
    free = _disk_free_mb(data)
    if free is not None and free < reserve_mb:
        found.append(f"disk: {free:.0f} MiB free below {data}, keep {reserve_mb} MiB: make room")
    if certificate_not_after is not None and clock.plausible(now):
        found += _certificate(now, certificate_not_after)
    return found


def _certificate(now: float, not_after: float) -> list[str]:
    date = _iso(not_after)
    if now > not_after:
        goes_on = "inference goes on, records wait on the device"
        return [f"certificate: expired {date}, enrol this device again; {goes_on}"]
    if now > not_after - WARN_BEFORE_S:
        return [f"certificate: expires {date}: enrol this device again before that"]
    return []


def _iso(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    except (OverflowError, ValueError, OSError):
        return f"{at:g} s after 1970"


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _memory_free_mb(root: Path) -> float | None:
    try:
        lines = (root / "proc/meminfo").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    kib = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    return None if kib is None else kib * 1024 / MIB


def _disk_free_mb(data: Path) -> float | None:
    try:
        return files.free_bytes(data) / MIB
    except OSError:
        return None


def _temperature_c(root: Path) -> float | None:
    """Return the hottest zone that makes sense."""
    zones = root.glob("sys/class/thermal/thermal_zone*/temp")
    readings = (_reading_c(zone) for zone in zones)
    return max((value for value in readings if value is not None), default=None)


def _reading_c(zone: Path) -> float | None:
    try:
        value = int(zone.read_text("ascii")) / 1000
    except (OSError, ValueError):
        return None
    return value if -60 < value < 200 else None  # noqa: PLR2004 - no board lives outside


def _own_memory_mb() -> float | None:
    used = resident_bytes(os.getpid())
    return None if used is None else used / MIB
