"""What all connections of a server have in common."""

import enum
from typing import TYPE_CHECKING

from runtime.serving.wire.app import App
from runtime.serving.wire.bodies import LARGE_BYTES
from runtime.serving.wire.head import Heads
from runtime.serving.wire.limits import Limits
from runtime.serving.wire.requests import Held
from runtime.serving.wire.watch import Watch

if TYPE_CHECKING:
    from runtime.serving.wire.connection import Connection


class Phase(enum.Enum):
    """Where a connection stands."""

    READING = enum.auto()
    ANSWERING = enum.auto()
    PARTING = enum.auto()
    ENDED = enum.auto()


class Shared:
    """Belongs to one event loop."""

    def __init__(self, app: App, limits: Limits) -> None:
        self.app, self.limits = app, limits
        self.heads = Heads(most_bytes=min(limits.body_bytes, LARGE_BYTES - 1))
        self.connections: set[Connection] = set()
        self.holding = False
        """The server gives up its traffic: each connection ends with its next answer."""
        self.held = Held(limits.held_bytes)
        self.watch = Watch(self.connections)
