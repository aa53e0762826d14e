"""Lets one batch after the other through, as fast as the cap on uploads allows."""

from edge_agent.pace import Pace


class Turnstile:
    """Which batch has paid for its way, and when it may go; for one thread."""

    def __init__(self, pace: Pace | None) -> None:
        """Let all through at once without a pace."""
        self._pace = pace
        self._paid: tuple[int, int] | None = None
        """Number and size of the batch whose turn it is."""
        self.opens_at: float | None = None
        """When it may go, on the clock of `lets`."""

    def lets(self, sequence: int, size: int, at: float) -> bool:
        """Say whether a batch may go now; if not, ask again at `opens_at`."""
        if self._pace is None:
            return True
        if self._paid != (sequence, size):
            if self._paid is not None:  # it was dropped while it waited
                self._pace.give_back(self._paid[1])
            self._paid, self.opens_at = (sequence, size), at + self._pace.take(size)
        if self.opens_at is not None and self.opens_at > at:
            return False
        self._paid = self.opens_at = None
        return True
