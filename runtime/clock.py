"""Time as a value: code that decides takes `now`; code that waits takes a Clock."""

import time
from typing import Protocol

PLAUSIBLE_SINCE = 1_767_225_600.0
"""2026-01-01T00:00:00Z: a device that shows less has no valid clock (no RTC, dead battery)."""
PLAUSIBLE_UNTIL = 2_524_608_000.0
"""2050-01-01T00:00:00Z: one that shows more has none either (a register that flipped)."""


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Wall clock, seconds since 1970 (UTC); may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never jumps back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Wall clock, seconds since 1970 (UTC)."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()


def plausible(now: float) -> bool:
    """Say whether a wall clock reading can be true at all."""
    return PLAUSIBLE_SINCE <= now < PLAUSIBLE_UNTIL
