"""One turn of the agent: the clock and the limits it decides by, and what it decided to do."""

import msgspec

from edge_agent.mind.effects import Effect


class Limits(msgspec.Struct, frozen=True):
    """What the rules go by; set by the operator (settings.py)."""

    crash_limit: int = 5
    stable_s: float = 60.0
    start_timeout_s: float = 120.0
    check_timeout_s: float = 120.0
    engine_timeout_s: float = 3600.0


class Turn:
    """Lives as long as one call of `step`."""

    def __init__(self, *, now: float, number: int, limits: Limits) -> None:
        """Begin at a wall clock reading, with the last number that was given away."""
        self.now, self.number, self.limits = now, number, limits
        self.testing = False
        """Whether some module's candidate occupies the device."""
        self.spread_s = 0.0
        """Within which time the fleet begins a download; 0: at once."""
        self.effects: list[Effect] = []

    def do(self, effect: Effect) -> None:
        """Ask for an effect, after those asked for before."""
        self.effects.append(effect)

    def new_number(self) -> int:
        """Return a number that no worker or job had in this life of the agent."""
        self.number += 1
        return self.number
