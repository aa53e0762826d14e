"""When a delivery is tried again, when it is given up, and when the webhook itself is. Pure."""

import enum
from dataclasses import dataclass

HOUR_S, DAY_S = 3600.0, 86400.0


@dataclass(frozen=True)
class Schedule:
    """How patient the registry is."""

    first_s: float = 5.0
    """The widest first wait; it doubles with each failure in a row."""
    most_s: float = 900.0
    """The widest wait of all."""
    give_up_s: float = DAY_S
    """An event that is older than this when an attempt fails becomes a dead letter."""
    disable_s: float = 5 * DAY_S
    """A webhook that has failed without a break for so long is switched off."""


@dataclass(frozen=True)
class Tried:
    """One attempt that failed."""

    event_at: float
    failing_since: float
    """When the first failure in a row was."""
    gone: bool = False
    """The receiver said 410 Gone: it wants no more."""


class Then(enum.Enum):
    """What follows."""

    AGAIN = "again"
    DEAD = "dead"
    """This event is set aside; the next one is tried after the same wait."""
    DISABLE = "disable"
    """Nothing is sent any more until somebody switches the webhook on; nothing is skipped."""


def after(schedule: Schedule, tried: Tried, *, now: float) -> Then:
    """Return what follows a failure."""
    if tried.gone or now - tried.failing_since >= schedule.disable_s:
        return Then.DISABLE
    return Then.DEAD if now - tried.event_at >= schedule.give_up_s else Then.AGAIN


def wait_s(schedule: Schedule, attempts: int, *, chance: float) -> float:
    """Return how long to wait after so many failures in a row; `chance` is drawn from [0, 1).

    Full jitter: receivers that failed in one moment are not all asked again in one moment.
    """
    widest = min(schedule.most_s, schedule.first_s * 2.0 ** min(attempts - 1, 60))
    return widest * chance
