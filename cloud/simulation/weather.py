"""What befalls a whole fleet in the middle of the second deployment, and how it comes back.

broker     killed, and started again by the registry
registry   killed with its broker, and started again at the same place
storm      the power of all devices with the profile reboot-storm goes in one moment
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import InvalidError
from runtime.simulated import TRY_PARTS, Count

BROKER, REGISTRY, STORM = "broker", "registry", "storm"
RESTARTS = (BROKER, REGISTRY)
FIRST_S, EVERY_S = 1.5, 4.0
"""After the deployment began: when the first thing happens, and how long until the next."""
STORMS = 2
WINDOW_S = 1.0
LEAST_LOOK_S = 0.1
BACK = 0.99
"""All are back when so many of those that were there are."""


def parse_restarts(texts: Sequence[str]) -> tuple[str, ...]:
    """Return what shall be restarted, in this order; raise InvalidError."""
    for text in texts:
        if text not in RESTARTS:
            raise InvalidError("restart", text, f"name one of {', '.join(RESTARTS)}")
    return tuple(texts)


def plan(restarts: Sequence[str], *, storms: bool) -> list[tuple[float, str]]:
    """Return what happens when, in seconds from the deployment on."""
    what = [*restarts, *([STORM] * STORMS if storms else [])]
    return [(FIRST_S + number * EVERY_S, name) for number, name in enumerate(what)]


@dataclass
class Blow:
    """One thing that happened, and how the fleet came back from it."""

    what: str
    at: float
    connected: int
    """Devices that were connected before."""
    connects: int
    """Connections that all had made before."""
    lost: int = 0
    """Connections that were lost until all were back."""
    back_s: float | None = None
    """Until all were connected again; None: not seen."""
    most_connects_per_s: int = 0
    """As they were seen; a busy machine makes many at once of those that were due before."""
    tries: dict[int, int] = field(default_factory=dict)
    """Attempts to connect since then, by the part of a second in which each was due."""
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def most_tries_per_s(self) -> int:
        """Return how many attempts to connect were due in one second at most."""
        return max(
            (
                sum(self.tries.get(part + more, 0) for more in range(TRY_PARTS))
                for part in self.tries
            ),
            default=0,
        )

    def look(self, now: Count, at: float) -> None:
        """Take note of how the fleet is."""
        if self.back_s is not None:
            return
        first = int(self.at * TRY_PARTS)
        for part, count in now.tries.items():
            if part >= first:
                self.tries[part] = max(count, self.tries.get(part, 0))
        self._seen.append((at, now.connects))
        while self._seen[0][0] < at - WINDOW_S:
            self._seen.popleft()
        rate = self._seen[-1][1] - self._seen[0][1]
        self.most_connects_per_s = max(self.most_connects_per_s, rate)
        # Each that was made stands or is lost, however quickly the next one came.
        self.lost = (now.connects - now.connected) - (self.connects - self.connected)
        if self.lost and now.connected >= self.connected * BACK:
            self.back_s = at - self.at

    def plain(self, began: float) -> dict[str, Any]:
        """Return it for the object."""
        return {
            "what": self.what,
            "at_s": round(self.at - began, 1),
            "lost": self.lost,
            "back_s": None if self.back_s is None else round(self.back_s, 1),
            "most_connects_per_s": self.most_connects_per_s,
            "most_tries_per_s": self.most_tries_per_s,
        }


class Weather:
    """Has the planned things happen, and watches; ticked by whoever waits for the fleet."""

    def __init__(self, planned: Sequence[tuple[float, str]], do: Callable[[str], None]) -> None:
        """`do` makes one thing happen; nothing does before `begin`."""
        self._planned, self._do = list(planned), do
        self._began: float | None = None
        self._looked_at = 0.0
        self.blows: list[Blow] = []

    @property
    def over(self) -> bool:
        """Whether all has happened, and all came back from it."""
        return not self._planned and all(blow.back_s is not None for blow in self.blows)

    def begin(self) -> None:
        """Count the time from now on, unless that was begun before."""
        self._began = self._began or time.monotonic()

    def look(self, now: Count) -> None:
        """Do what is due, and take note of how the fleet is."""
        at = time.monotonic()
        if self._began is None or at < self._looked_at + LEAST_LOOK_S:
            return
        self._looked_at = at
        if self._planned and at >= self._began + self._planned[0][0] and self._settled:
            _, what = self._planned.pop(0)
            self.blows.append(Blow(what, at, now.connected, now.connects))
            self._do(what)
        for blow in self.blows[-1:]:
            blow.look(now, time.monotonic())

    @property
    def _settled(self) -> bool:
        """Whether all is well after what happened last: one thing after the other is seen."""
        return all(blow.back_s is not None for blow in self.blows)
