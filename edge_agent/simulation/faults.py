"""What goes wrong with a simulated device, by its profiles: drawn from its own seed, so that the
same seed brings the same faults to the same devices.

    latency        every message, either way, is late
    loss           some messages, either way, never arrive
    satellite      late, some lost, some stalled for seconds, a narrow link
    3g             a little late, a few lost, some stalled, a narrow link
    cut            the connection breaks now and then
    off-on         no network for a while, then network for as long, and so on
    reboot         the power goes now and then; what the journal holds is left
    reboot-storm   the power of the whole site goes in one moment, and comes back in one
    failing-check  every bundle but the first fails its check on this board
    slow-disk      writing and reading back take long, and all waits for them
    disk-full      for a while the disk takes nothing
    clock-jump     the wall clock jumps by up to ten years, either way
"""

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from runtime import simulated

SHARE = 60.0
"""Lines break in a sixtieth of the time that they really take."""
CUT_EVERY_S = (240.0 / SHARE, 900.0 / SHARE)
OFF_ON_S = 300.0 / SHARE
REBOOT_EVERY_S = (6.0, 20.0)
DOWN_S = (0.5, 2.0)
STORM_DOWN_S = 2.0
SLOW_S = (0.2, 0.8)
QUICK_S = (0.005, 0.03)
FULL_EVERY_S, FULL_S = (3.0, 10.0), (2.0, 5.0)
JUMP_EVERY_S, JUMP_S = (3.0, 10.0), 10 * 365 * 86_400.0


@dataclass(frozen=True)
class Manner:
    """How a bad line treats messages."""

    name: str
    late_s: tuple[float, float] = (0.0, 0.0)
    lost: float = 0.0
    stalled: float = 0.0
    """Which part of the messages is late by `stall_s` more."""
    stall_s: tuple[float, float] = (0.0, 0.0)
    kbps: int | None = None
    """How fast downloads are at most."""


MANNERS = (
    Manner(simulated.LATENCY, late_s=(0.3, 0.9)),
    Manner(simulated.LOSS, lost=0.1),
    Manner(simulated.SATELLITE, (0.27, 0.33), 0.02, 0.02, (1.0, 3.0), kbps=1_000),
    Manner(simulated.THIRD_GENERATION, (0.04, 0.12), 0.01, 0.03, (0.5, 2.0), kbps=2_000),
)


class Faults:
    """The faults of one device; draws are in the order in which they are asked for."""

    def __init__(self, profiles: Collection[str], rng: random.Random) -> None:
        """`rng` is this device's own."""
        self.profiles, self._rng = frozenset(profiles), rng
        self._manners = tuple(each for each in MANNERS if each.name in self.profiles)
        self.counts: Counter[str] = Counter()
        """How often something of each profile happened."""
        self.over = self.offline = self.full = False
        self.clock_off_s = 0.0

    def calm(self) -> None:
        """Break and lose nothing more; what is slow stays slow, and a wrong clock wrong."""
        self.over = True
        self.offline = self.full = False

    def late_s(self) -> float:
        """Return how late the next message is."""
        late_s = 0.0
        for manner in self._manners:
            late_s += self._late_s(manner)
        return late_s

    def _late_s(self, manner: Manner) -> float:
        late_s = self._rng.uniform(*manner.late_s)
        if not self.over and self._rng.random() < manner.stalled:
            late_s += self._rng.uniform(*manner.stall_s)
        if late_s > 0.0:
            self.counts[manner.name] += 1
        return late_s

    def loses(self) -> bool:
        """Say whether the next message never arrives."""
        if not self._manners or self.over:
            return False
        return any(
            self._happens(manner.name, self._rng.random() < manner.lost)
            for manner in self._manners
            if manner.lost
        )

    def kbps(self, usual: int) -> int:
        """Return how fast downloads are."""
        return min([usual, *(each.kbps for each in self._manners if each.kbps is not None)])

    def next_cut_s(self) -> float | None:
        """Return after how long the connection breaks; None: never."""
        return self._rng.uniform(*CUT_EVERY_S) if simulated.CUT in self.profiles else None

    @property
    def hurry(self) -> float:
        """How many times as fast as real waits for a connection have to be, to fit the faults."""
        return SHARE if self.profiles & {simulated.CUT, simulated.OFF_ON} else 1.0

    def next_switch_s(self) -> float | None:
        """Return after how long the network first goes; None: never."""
        if simulated.OFF_ON not in self.profiles:
            return None
        return self._rng.uniform(0.0, 2 * OFF_ON_S)

    def next_reboot_s(self) -> float | None:
        """Return after how long the power goes; None: never."""
        return self._rng.uniform(*REBOOT_EVERY_S) if simulated.REBOOT in self.profiles else None

    def down_s(self) -> float:
        """Return how long the device is without power."""
        return self._rng.uniform(*DOWN_S)

    def next_full_s(self) -> float | None:
        """Return after how long the disk is full, or has room again; None: never."""
        if simulated.DISK_FULL not in self.profiles:
            return None
        return self._rng.uniform(*(FULL_S if self.full else FULL_EVERY_S))

    def next_jump_s(self) -> float | None:
        """Return after how long the wall clock jumps; None: never."""
        if simulated.CLOCK_JUMP not in self.profiles:
            return None
        return self._rng.uniform(*JUMP_EVERY_S)

    def jump(self) -> None:
        """Set the wall clock to some other time."""
        self.clock_off_s = self._rng.uniform(-JUMP_S, JUMP_S)
        self.happened(simulated.CLOCK_JUMP)

    def refuses_write(self) -> bool:
        """Say whether the disk has no room for what is to be written now."""
        return self._happens(simulated.DISK_FULL, self.full)

    def disk_s(self) -> float:
        """Return how long the disk takes to make something durable, beside no time at all."""
        slow = self._happens(simulated.SLOW_DISK, simulated.SLOW_DISK in self.profiles)
        return self._rng.uniform(*SLOW_S) if slow else 0.0

    def read_s(self) -> float:
        """Return how long it takes to read a bundle back."""
        slow = simulated.SLOW_DISK in self.profiles
        return self._rng.uniform(*(SLOW_S if slow else QUICK_S))

    def fails_check(self, *, first: bool) -> bool:
        """Say whether a bundle fails its check; `first`: nothing ran here before."""
        picky = simulated.FAILING_CHECK in self.profiles
        return self._happens(simulated.FAILING_CHECK, picky and not first)

    def happened(self, profile: str) -> None:
        """Count one that was drawn before."""
        self.counts[profile] += 1

    def work_s(self) -> float:
        """Return how long a worker takes for what it is asked."""
        return self._rng.uniform(0.01, 0.1)

    def _happens(self, profile: str, happens: bool) -> bool:  # noqa: FBT001 - it is what is decided
        if happens:
            self.counts[profile] += 1
        return happens
