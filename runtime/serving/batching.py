"""Which of the requests that wait run next, and together: a function of values.

Requests go together if they have the same key (their shapes without the batch dimension). Within a
key nobody overtakes; a batch never has more rows than the rules say, save one request that alone
has more. Nobody waits for company unless the rules give a delay, and then for no longer than that,
nor beyond the moment when his own deadline would be missed.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Waiting(NamedTuple):
    """A request that waits."""

    arrived: float
    """On the same clock as `now`."""
    rows: int
    key: Hashable
    latest: float = math.inf
    """It must not be held back beyond this moment."""


class Rules(NamedTuple):
    """How requests may be put together."""

    max_rows: int
    max_delay_s: float


class Run(NamedTuple):
    """Run these now, in this order."""

    places: tuple[int, ...]


class Wait(NamedTuple):
    """Look again at this moment, or when another request has come; inf: only then."""

    until: float


def decide(now: float, queue: Sequence[Waiting], rules: Rules) -> Run | Wait:
    """Return what to do, given all that waits in the order of its arrival."""
    due = math.inf
    for key in dict.fromkeys(waiting.key for waiting in queue):
        places, full = _gather(queue, key, rules.max_rows)
        together = [queue[place] for place in places]
        latest = min(waiting.latest for waiting in together)
        moment = min(together[0].arrived + rules.max_delay_s, latest)
        if full or now >= moment:
            return Run(places)
        due = min(due, moment)
    return Wait(due)


def _gather(queue: Sequence[Waiting], key: Hashable, max_rows: int) -> tuple[tuple[int, ...], bool]:
    """Return the first requests of a key that fit together, and whether no more would."""
    places: list[int] = []
    rows = 0
    for place, waiting in enumerate(queue):
        if waiting.key != key:
            continue
        if places and rows + waiting.rows > max_rows:
            return tuple(places), True
        places.append(place)
        rows += waiting.rows
        if rows >= max_rows:
            return tuple(places), True
    return tuple(places), False
