"""What every byte of a download passes: is it still wanted, allowed now, paid for, and due?

room   how many bytes may be asked for; raises if none may
wait   until so many may come
count  what came
"""

from collections.abc import Callable

from edge_agent.bundles.patience import Patience
from edge_agent.bundles.purse import STEP_BYTES, Purse
from edge_agent.pace import Pace


class Valve:
    """One download's; for one thread."""

    def __init__(
        self,
        patience: Patience,
        *,
        purse: Purse | None = None,
        pace: Pace | None = None,
        received: Callable[[int], None] = lambda _bytes: None,
    ) -> None:
        """`received` is told of all bytes that came, right or wrong."""
        self.patience = patience
        self._purse, self._pace, self._received = purse, pace, received

    def room(self, count: int, *, least: int = 1) -> int:
        """Return how many of these bytes may be asked for now: `least` or more.

        Raises FetchCancelledError, NotNowError or BudgetError.
        """
        self.patience.require_leave()
        return count if self._purse is None else self._purse.room(count, least=least)

    def step(self, count: int) -> int:
        """Return how many of these bytes one request should be for.

        What a budget pays for is noted before it is asked for, and lost by a kill.
        """
        return count if self._purse is None else min(count, STEP_BYTES)

    def most(self, count: int) -> int:
        """Return how many of these bytes should be taken at once, at least one."""
        return count if self._pace is None else min(count, self._pace.most)

    def wait(self, count: int) -> None:
        """Return once so many bytes may come; raises as `room` does."""
        if self._pace is None:
            return
        try:
            self.patience.pause(self._pace.take(count))
        except BaseException:
            self._pace.give_back(count)
            raise

    def count(self, came: int, *, waited_for: int) -> None:
        """Take note of bytes that came, after waiting for so many."""
        if self._pace is not None:
            self._pace.give_back(waited_for - came)
        if came:
            if self._purse is not None:
                self._purse.spend(came)
            self._received(came)
            self.patience.progressed()

    def lost(self, count: int) -> None:
        """Take note of bytes that were asked for and may still come, though nobody will look."""
        if self._purse is not None:
            self._purse.spend(count)
        self._received(count)
