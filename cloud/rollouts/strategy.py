"""How a rollout goes about it: its document's strategy as values that decisions are made of. Pure.

Wave numbers begin at 0; the last wave takes what the others leave over.
"""

from dataclasses import dataclass, field

Span = tuple[float, float]
"""From when to when, seconds since 1970."""


@dataclass(frozen=True)
class Wave:
    """One step; exactly one of `count`, `percent` and `selector` is set, or `rest`."""

    gate: float
    soak_s: float
    timeout_s: float
    count: int | None = None
    percent: float | None = None
    selector: str | None = None
    approve: bool = False

    @property
    def rest(self) -> bool:
        """Whether it takes all that is left."""
        return self.count is None and self.percent is None and self.selector is None

    def size(self, total: int) -> int:
        """Return how many devices a wave by count or percentage has; at least one."""
        if self.percent is not None:
            return max(1, int(total * self.percent / 100 + 1e-9))
        return self.count or 0


@dataclass(frozen=True)
class Budget:
    """How many devices of one group may be unavailable at once."""

    most: int | None = None
    fraction: float | None = None
    """In place of `most`: of the devices of the group."""
    by: str | None = None

    def of(self, size: int) -> int:
        """Return the number for a group of so many devices."""
        if self.most is not None:
            return self.most
        return max(1, int(size * (self.fraction or 0.0) + 1e-9))


@dataclass(frozen=True)
class Window:
    """A time that comes again and again: `cloud.rollouts.windows` reads it."""

    cron: str
    zone: str
    for_s: float


@dataclass(frozen=True)
class Strategy:
    """All of it."""

    waves: tuple[Wave, ...]
    """At least one: the last is the rest."""
    device_timeout_s: float = 86400.0
    retries: int = 3
    backoff_s: float = 60.0
    budget: Budget | None = None
    update: tuple[Window, ...] = field(default=())
    download: tuple[Window, ...] = field(default=())
    most_failures: int | None = None
    """A number of devices; None: the fraction counts."""
    failure_rate: float = 0.1
    least: int = 3
    after_s: float | None = None
    silence_s: float = 900.0
    reverts: bool = True
