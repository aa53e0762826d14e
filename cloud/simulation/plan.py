"""Which devices a simulation has, what is wrong with each, and which process holds it; pure."""

import random
from collections.abc import Mapping, Sequence

from runtime import simulated
from runtime.errors import InvalidError

MOST_IN_A_PROCESS = 4000
"""Each device has two descriptors, and a process usually may open 20,000 at most."""
WORTH_A_PROCESS = 100


def parse_profiles(texts: Sequence[str]) -> dict[str, float]:
    """Return which fraction of the devices has which profile; raise InvalidError."""
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if name not in simulated.PROFILES:
            raise InvalidError("profile", text, f"name one of {', '.join(simulated.PROFILES)}")
        try:
            fraction = float(value) if equals else 1.0
        except ValueError:
            fraction = -1.0
        if not 0.0 <= fraction <= 1.0:
            raise InvalidError("profile", text, f"give a fraction from 0 to 1, as {name}=0.1")
        if name in found:
            raise InvalidError("profile", text, f"give {name} once")
        found[name] = fraction
    return found


def names(count: int) -> list[str]:
    """Return the names of the devices."""
    return [f"sim-{number:05d}" for number in range(1, count + 1)]


def assign(
    devices: Sequence[str], fractions: Mapping[str, float], seed: int
) -> dict[str, tuple[str, ...]]:
    """Return the profiles of each device: the same seed has the same ones; a device may have two.

    A fraction above 0 reaches one device at least.
    """
    found: dict[str, list[str]] = {device: [] for device in devices}
    for name, fraction in sorted(fractions.items()):
        drawn = random.Random(f"{seed}/{name}")  # noqa: S311 - repeatable, guards nothing
        some = max(1, round(fraction * len(devices))) if fraction > 0 else 0
        for device in drawn.sample(list(devices), some):
            found[device].append(name)
    return {device: tuple(profiles) for device, profiles in found.items()}


def processes(devices: int, cpus: int, wanted: int | None) -> int:
    """Return how many processes hold the devices; raise InvalidError if so few cannot."""
    least = -(-devices // MOST_IN_A_PROCESS)
    if wanted is None:
        return max(least, min(cpus, -(-devices // WORTH_A_PROCESS)))
    if wanted < least:
        fix = f"give at least {least}: a process holds at most {MOST_IN_A_PROCESS} devices"
        raise InvalidError("processes", wanted, fix)
    return min(wanted, devices)


def share(devices: Sequence[str], count: int) -> list[list[str]]:
    """Return the devices of each process, in equal parts."""
    return [list(devices[number::count]) for number in range(count)]
