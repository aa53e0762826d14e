"""What a minder of containers is told, what it aims at, and what it tells."""

import enum
from collections.abc import Callable

import msgspec

from edge_agent.mind.events import Event


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
