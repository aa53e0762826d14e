"""Targets and image makers, made from settings when they are first used.

The libraries that talk to engines and clusters are heavy, and most registries need one of them or
none: so each is imported here, lazily, and nowhere else above its own package.
"""

import threading
from collections.abc import Callable, Mapping

from cloud.hosting.errors import RefusedError
from cloud.hosting.targets import Place, Target
from cloud.settings import Settings

Opener = Callable[[Settings, Place], Target]


def _missing(_settings: Settings, place: Place) -> Target:
    raise RefusedError(f"{place.kind}: this registry has no such target")


OPENERS: Mapping[str, Opener] = {"docker": _missing, "kubernetes": _missing}


class Targets:
    """One target for each place, opened when first asked for. Any thread may ask."""

    def __init__(self, settings: Settings, openers: Mapping[str, Opener] = OPENERS) -> None:
        self._settings, self._openers = settings, openers
        self._lock = threading.Lock()
        self._open: dict[Place, Target] = {}

    def of(self, place: Place) -> Target:
        """Return the target at a place; raise TargetError if it cannot be opened."""
        with self._lock:
            found = self._open.get(place)
        if found is not None:
            return found
        opener = self._openers.get(place.kind)
        if opener is None:
            raise RefusedError(f"target: {place.kind} is not known here")
        # Not under the lock: one place that does not answer holds up no other.
        made = opener(self._settings, place)
        with self._lock:
            kept = self._open.setdefault(place, made)
        if kept is not made:
            made.close()
        return kept

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            opened, self._open = list(self._open.values()), {}
        for target in opened:
            target.close()
