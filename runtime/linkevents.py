"""What a connection to a broker tells whoever it was made for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Connected:
    """The broker took us and every subscription."""


@dataclass(frozen=True)
class Disconnected:
    """The connection ended, or could not be made; told once per lasting reason."""

    reason: str


@dataclass(frozen=True)
class Received:
    """A message, which may come more than once."""

    topic: str
    payload: bytes
    mid: int
    retained: bool
    qos: int = 0
    connection: int = 0
    """On which connection it came: only there can it be acked."""


LinkEvent: TypeAlias = Connected | Disconnected | Received
Inbox: TypeAlias = Callable[[LinkEvent], None]
