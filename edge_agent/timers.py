"""Timers of the owner thread: it sleeps until the next one is due, and no thread ticks."""

from edge_agent.mind.events import TimerKey


class Timers:
    """What is due when, on a clock that never jumps back."""

    def __init__(self) -> None:
        self._due: dict[TimerKey, float] = {}

    def set(self, key: TimerKey, at: float) -> None:
        """Let `key` be due at `at`, and at no other time that was set before."""
        self._due[key] = at

    def take(self, now: float) -> list[TimerKey]:
        """Return what is due, the longest due first, and forget it."""
        due = sorted((at, str(key), key) for key, at in self._due.items() if at <= now)
        keys = [key for _at, _name, key in due]
        for key in keys:
            del self._due[key]
        return keys

    def wait_s(self, now: float) -> float | None:
        """Return how long to sleep; None: until something else happens."""
        return None if not self._due else max(0.0, min(self._due.values()) - now)
