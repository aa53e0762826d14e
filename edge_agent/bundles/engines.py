"""Sweeps the engines that TensorRT has built: those of no bundle here go first used, first swept.

An engine that a bundle on this device needs is never swept. Others stay while there is room below
the cap, since a version that comes back would have to build for minutes.
"""

import json
import logging
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

DIRECTORY = "engines"
"""Below the agent's data."""
USERS = "bundles.json"
"""In an engine's directory: the bundles that it was built or used for."""


class Kept(msgspec.Struct, frozen=True):
    """One engine's directory."""

    name: str
    size_bytes: int
    used_at: float
    bundles: frozenset[str]


def superfluous(kept: Iterable[Kept], keep: Collection[str], cap_bytes: int) -> list[str]:
    """Return what to remove so that all fits below the cap, or as near as it may. Pure."""
    known = list(kept)
    left = sum(each.size_bytes for each in known)
    removed: list[str] = []
    for each in sorted(known, key=lambda one: one.used_at):
        if left <= cap_bytes:
            break
        if each.bundles.isdisjoint(keep):
            removed.append(each.name)
            left -= each.size_bytes
    return removed


def collect(root: Path, keep: Collection[str], cap_bytes: int) -> int:
    """Remove engines by the rule above; return how many. Raises OSError."""
    if not root.is_dir():
        return 0
    names = superfluous((_read(path) for path in root.iterdir()), keep, cap_bytes)
    for name in names:
        shutil.rmtree(root / name)
    if names:
        log.info("engines swept", extra={"removed": len(names)})
    return len(names)


def _read(directory: Path) -> Kept:
    files = list(directory.iterdir())
    try:
        bundles = frozenset(map(str, json.loads((directory / USERS).read_bytes())))
    except (OSError, ValueError):
        bundles = frozenset()  # damaged: nobody's
    size = sum(path.stat().st_size for path in files)
    return Kept(directory.name, size, directory.stat().st_mtime, bundles)
