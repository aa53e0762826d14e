"""What a minder of containers is told, what it aims at, and what it tells."""

import enum
from collections.abc import Callable
from typing import Literal

import msgspec

from edge_agent.mind.events import Event
from edge_agent.mind.turn import Limits
from runtime.containers.errors import AbsentError, EngineError, EngineRefusedError
from runtime.errors import InvalidError

IN_TIME = 0.95
"""Of the mind's own limit: this one can say what was waited for."""
SERVER_FAILED = 500
"""From this status on an answer says that the engine failed, not that it was asked for too much."""


class Order(enum.Enum):
    """What a minder is told."""

    CHECK = "check"
    ACCEPT = "accept"
    HOLD = "hold"
    STOP = "stop"
    KILL = "kill"
    LEAVE = "leave"
    """The agent ends; the containers run on."""
    WAKE = "wake"


class Goal(enum.Enum):
    """How the containers shall be."""

    MADE = "made"
    UP = "up"
    HELD = "held"
    GONE = "gone"


class End(msgspec.Struct, frozen=True):
    """How it ended."""

    text: str
    final: bool = False
    blameless: bool = False


class Told(msgspec.Struct, frozen=True):
    """Whom a minder tells; called from its thread."""

    put: Callable[[Event], None]
    engine: Callable[[str], None]
    """What is wrong with the engine; "": nothing any more."""


def late(kind: Literal["check", "start"], waiting: str, taken_s: float, limits: Limits) -> str:
    """Return what was waited for in vain, if a check or a start has taken too long; "": it has not.

    The mind has the same limit, and could not say what was waited for.
    """
    limit_s = limits.check_timeout_s if kind == "check" else limits.start_timeout_s
    if taken_s <= limit_s * IN_TIME:
        return ""
    return f"{waiting} after {limit_s:g} s ({kind}_timeout_s)"


def is_failure(error: EngineError | InvalidError, *, accepted: bool) -> bool:
    """Say whether a start that the engine refuses has failed, or only ended and is tried again.

    An image that is gone the mind has fetched again. What the engine did wrong by itself may go
    well another time; it counts as a crash.
    """
    if isinstance(error, AbsentError):
        return True
    own_fault = isinstance(error, EngineRefusedError) and error.status >= SERVER_FAILED
    return not (accepted or own_fault)
