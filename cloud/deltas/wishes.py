"""What devices asked for, until the maker looks at it: a small memory between two threads."""

import collections
import threading

from cloud.deltas.policy import Pair
from cloud.storage.encodings import Recipe

MOST = 4096


class Wishes:
    """Deltas that devices could have used, and encodings that they were offered.

    Lost with the process: devices ask again. Any thread may use it.
    """

    def __init__(self) -> None:
        self.woken = threading.Event()
        """Set when there is something to look at."""
        self._lock = threading.Lock()
        self._wanted: collections.Counter[Pair] = collections.Counter()
        self._used: dict[Recipe, float] = {}

    def want(self, pair: Pair) -> None:
        """Note a delta that was not there."""
        with self._lock:
            if pair in self._wanted or len(self._wanted) < MOST:
                self._wanted[pair] += 1
        self.woken.set()

    def used(self, recipe: Recipe, at: float) -> None:
        """Note that an encoding was offered."""
        with self._lock:
            if recipe in self._used or len(self._used) < MOST:
                self._used[recipe] = at

    def take_wanted(self) -> dict[Pair, int]:
        """Return what was noted since the last time."""
        with self._lock:
            taken, self._wanted = dict(self._wanted), collections.Counter()
        return taken

    def take_used(self) -> dict[Recipe, float]:
        """Return what was offered since the last time, and when."""
        with self._lock:
            taken, self._used = self._used, {}
        return taken
