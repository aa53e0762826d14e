"""When to try again.

Full jitter: each wait is drawn evenly from zero to a ceiling that doubles with every failure. So a
fleet that lost its registry in one moment does not come back to it in one moment.
"""

import random


class Backoff:
    """Draws the wait before each next try; not for use by several threads at once."""

    def __init__(
        self, first_s: float = 1.0, most_s: float = 300.0, rng: random.Random | None = None
    ) -> None:
        """Start with a ceiling of `first_s` seconds; it never rises above `most_s`."""
        self._first_s, self._most_s = first_s, most_s
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._ceiling_s = min(first_s, most_s)

    def next(self) -> float:
        """Return how many seconds to wait now, and widen the window for the next time."""
        wait_s = self._rng.uniform(0.0, self._ceiling_s)
        self._ceiling_s = min(self._most_s, self._ceiling_s * 2)
        return wait_s

    def spread(self, first_s: float) -> None:
        """Let the first ceiling be this from now on: as many share what was lost as that asks."""
        self._first_s = min(first_s, self._most_s)
        self._ceiling_s = max(self._ceiling_s, self._first_s)

    def limit(self, most_s: float) -> None:
        """Let the next wait be at most this long, or as the first one if that is longer."""
        self._ceiling_s = min(self._ceiling_s, max(self._first_s, most_s))

    def reset(self) -> None:
        """Forget all failures: what was tried has worked, and for long enough."""
        self._ceiling_s = min(self._first_s, self._most_s)
