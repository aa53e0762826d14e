"""When devices try to connect: by the moment that each has chosen, however late its turn comes.

A machine that is too busy makes all that was due meanwhile in one moment. What a fleet would do to
its broker is told by when it meant to.
"""

from collections import Counter

from runtime.simulated import TRY_PARTS

KEPT_S = 60.0


class Tries:
    """Of all devices of a process."""

    def __init__(self) -> None:
        """Begin with none."""
        self._counts: Counter[int] = Counter()

    def note(self, due: float) -> None:
        """Count one that was due at a reading of the clock, seconds."""
        self._counts[int(due * TRY_PARTS)] += 1

    def recent(self, now: float) -> dict[int, int]:
        """Return how many were due in each part of a second (TRY_PARTS) of the last minute."""
        first = int((now - KEPT_S) * TRY_PARTS)
        for old in [part for part in self._counts if part < first]:
            del self._counts[old]
        return dict(self._counts)
