"""What goes wrong with a simulated device, by its profiles: drawn from its own seed, so that the
same seed brings the same faults to the same devices.

    latency        every message, either way, is late: as over a satellite
    loss           some messages, either way, never arrive
    cut            the connection breaks now and then
    reboot         the power goes now and then; what the journal holds is left
    failing-check  every bundle but the first fails its check on this board
    slow-disk      writing and reading back take long, and all waits for them
"""

import random
from collections.abc import Collection

from runtime import simulated

LATE_S = (0.3, 0.9)
LOST = 0.1
CUT_EVERY_S = (4.0, 15.0)
REBOOT_EVERY_S = (6.0, 20.0)
DOWN_S = (0.5, 2.0)
SLOW_S = (0.2, 0.8)
QUICK_S = (0.005, 0.03)


class Faults:
    """The faults of one device; draws are in the order in which they are asked for."""

    def __init__(self, profiles: Collection[str], rng: random.Random) -> None:
        """`rng` is this device's own."""
        self.profiles, self._rng = frozenset(profiles), rng
        self.count = 0
        self.over = False

    def calm(self) -> None:
        """Break and lose nothing more; what is slow stays slow."""
        self.over = True

    def late_s(self) -> float:
        """Return how late the next message is."""
        return self._rng.uniform(*LATE_S) if simulated.LATENCY in self.profiles else 0.0

    def loses(self) -> bool:
        """Say whether the next message never arrives."""
        lossy = simulated.LOSS in self.profiles and not self.over
        return self._happens(lossy and self._rng.random() < LOST)

    def next_cut_s(self) -> float | None:
        """Return after how long the connection breaks; None: never."""
        return self._rng.uniform(*CUT_EVERY_S) if simulated.CUT in self.profiles else None

    def next_reboot_s(self) -> float | None:
        """Return after how long the power goes; None: never."""
        return self._rng.uniform(*REBOOT_EVERY_S) if simulated.REBOOT in self.profiles else None

    def down_s(self) -> float:
        """Return how long the device is without power."""
        return self._rng.uniform(*DOWN_S)

    def disk_s(self) -> float:
        """Return how long the disk takes to make something durable, beside no time at all."""
        slow = self._happens(simulated.SLOW_DISK in self.profiles)
        return self._rng.uniform(*SLOW_S) if slow else 0.0

    def read_s(self) -> float:
        """Return how long it takes to read a bundle back."""
        slow = simulated.SLOW_DISK in self.profiles
        return self._rng.uniform(*(SLOW_S if slow else QUICK_S))

    def fails_check(self, *, first: bool) -> bool:
        """Say whether a bundle fails its check; `first`: nothing ran here before."""
        return self._happens(simulated.FAILING_CHECK in self.profiles and not first)

    def happened(self) -> None:
        """Count one that was drawn before."""
        self.count += 1

    def work_s(self) -> float:
        """Return how long a worker takes for what it is asked."""
        return self._rng.uniform(0.01, 0.1)

    def _happens(self, happens: bool) -> bool:  # noqa: FBT001 - it is what is decided
        self.count += happens
        return happens
