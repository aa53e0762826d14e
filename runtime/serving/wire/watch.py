"""One timer for all connections of a server: it sleeps until the first of them may be too slow.

A timer for each request would cost more than parsing it; here a request that is answered at once
costs one assignment.
"""

import asyncio
import math
from collections.abc import Collection
from typing import Protocol

COARSE_S = 0.1
"""Deadlines this near to one another are looked at together."""


class Watched(Protocol):
    """What can be too slow."""

    deadline: float
    """In the loop's time; infinity: it may take as long as it likes."""

    def expire(self, now: float) -> None:
        """Do what is due now that the deadline has passed: end, or set another deadline."""
        ...


class Watch:
    """Looks at deadlines; whoever brings one forward says so with `arm`."""

    def __init__(self, watched: Collection[Watched]) -> None:
        self._watched = watched
        self._wakes_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, deadline: float) -> None:
        """Wake up by then."""
        if deadline < self._wakes_at:
            if self._timer is not None:
                self._timer.cancel()
            self._wakes_at = deadline
            self._timer = asyncio.get_running_loop().call_at(deadline, self._look)

    def _look(self) -> None:
        self._wakes_at, self._timer = math.inf, None
        now = asyncio.get_running_loop().time()
        for each in tuple(self._watched):
            if each.deadline <= now:
                each.expire(now)
        first = min((each.deadline for each in self._watched), default=math.inf)
        if first < math.inf:
            self.arm(max(first, now + COARSE_S))
