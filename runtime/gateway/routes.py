"""The configuration in force, worked out, and its replacement in one step.

A Table never changes; Routes points to the newest one. Groups of replicas live as long as some
configuration names their revision, so a new configuration costs no connection of those that stay.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic

from runtime.gateway import choice
from runtime.gateway.config import Config
from runtime.gateway.keyring import Keyring, Limiter
from runtime.gateway.replicas import CarrierT, Group, Make


@dataclass(frozen=True)
class Table:
    """What one configuration says, ready to use."""

    config: Config
    keyring: Keyring
    cycle: tuple[int, ...]
    """Whose turn it is: indexes into the configuration's revisions; () if nobody has traffic."""
    orders: tuple[tuple[str, ...], ...]
    """For each revision: itself, then the others that have traffic, the largest share first."""

    def order(self, number: int) -> tuple[str, ...]:
        """Return the revisions that may answer request `number`, by preference; () for none."""
        return self.orders[self.cycle[number % len(self.cycle)]] if self.cycle else ()


class Fleet(Generic[CarrierT]):
    """All revisions' replicas for one protocol."""

    def __init__(self, make: Make[CarrierT], on_change: Callable[[], None]) -> None:
        self._make, self._on_change = make, on_change
        self._groups: dict[str, Group[CarrierT]] = {}

    def set(self, backends: Mapping[str, tuple[str, ...]]) -> None:
        """Have these revisions, at these addresses."""
        for name in set(self._groups) - set(backends):
            self._groups.pop(name).leave()
        for name, addresses in backends.items():
            if name not in self._groups:
                self._groups[name] = Group(self._make, self._on_change)
            self._groups[name].set(addresses)

    def groups(self, names: tuple[str, ...]) -> list[tuple[str, Group[CarrierT]]]:
        """Return those of these revisions that are there."""
        return [(name, self._groups[name]) for name in names if name in self._groups]

    def well(self) -> dict[str, tuple[str, ...]]:
        """Return each revision's addresses that answer."""
        return {name: group.well() for name, group in self._groups.items()}


class Routes:
    """What is in force now."""

    def __init__(self) -> None:
        """Have no configuration yet."""
        self.table: Table | None = None
        self._limiter = Limiter(asyncio.get_running_loop().time)
        self._number = 0
        self._appliers: list[Callable[[Config], None]] = []

    def on_apply(self, apply: Callable[[Config], None]) -> None:
        """Have `apply` called with each new configuration, before it is in force."""
        self._appliers.append(apply)

    def apply(self, config: Config) -> None:
        """Put a configuration in force."""
        for apply in self._appliers:
            apply(config)
        self._limiter.keep(config.keys)
        self.table = _worked_out(config, self._limiter)

    def number(self) -> int:
        """Count a request."""
        self._number += 1
        return self._number - 1


def _worked_out(config: Config, limiter: Limiter) -> Table:
    sharing = sorted(
        (revision for revision in config.revisions if revision.weight),
        key=lambda revision: -revision.weight,
    )
    orders = tuple(
        (each.name, *(other.name for other in sharing if other.name != each.name))
        for each in config.revisions
    )
    return Table(
        config=config,
        keyring=Keyring(config.keys, anonymous=config.anonymous, limiter=limiter),
        cycle=choice.cycle([revision.weight for revision in config.revisions]),
        orders=orders,
    )
