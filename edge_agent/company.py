"""Whom the owner of the state works with, as it sees them: each is real on a device, and replaced
in the simulation where it stands for hardware.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_agent.mind.effects import Effect
from edge_agent.mind.events import TimerKey
from edge_agent.mind.states import SavedState, State
from edge_agent.remote.desk import Desk
from edge_agent.timers import Timers
from runtime.clock import Clock
from runtime.imagelogins import ImageLogins
from runtime.messages import Ack, CommandResult


class Journal(Protocol):
    """Where the durable half of the state is kept."""

    def write(self, saved: SavedState) -> bool:
        """Make a state durable; raise OSError if that cannot be done."""
        ...


class Hands(Protocol):
    """What does the effects."""

    def do(self, effect: Effect) -> None:
        """Do one effect, but Report."""
        ...

    def again(self, key: TimerKey) -> None:
        """Try again what the hands' own timer was set for."""
        ...


class Account(Protocol):
    """What is known of the device, for whoever tells others."""

    state: State
    generation: int
    link: str

    def trouble(self, about: str) -> str:
        """Return what is wrong with something; empty: nothing."""
        ...

    def note(self, about: str, text: str) -> bool:
        """Remember what is wrong with something; say whether that is news."""
        ...

    def forget(self, prefix: str) -> None:
        """Forget whatever is wrong with things whose names begin so."""
        ...


class Telemetry(Protocol):
    """What carries records to the registry."""

    def on_ack(self, ack: Ack) -> None:
        """The registry holds batches up to this."""
        ...

    def on_connected(self) -> None:
        """Send what waits."""
        ...

    def on_disconnected(self) -> None:
        """Wait."""
        ...

    def stalled_since(self) -> float | None:
        """Return since when nothing has been acknowledged that should be; None: all is well."""
        ...


class Uplink(Protocol):
    """The way to the registry."""

    @property
    def connected(self) -> bool:
        """Whether the registry's broker is reached."""
        ...

    def changed(self, *, urgent: bool) -> None:
        """Report soon, or at once."""
        ...

    def rebuild(self) -> None:
        """Make a new connection."""
        ...

    def share(self, fleet: int) -> None:
        """Know that about so many devices share the broker; 0: nobody knows."""
        ...

    def queue(self, fleet: int) -> None:
        """Connect for the first time when one's turn comes: all of a fleet may have had no power.

        Comes before the link is started.
        """
        ...

    def answer(self, result: CommandResult) -> None:
        """Say what came of a command; raise LinkError if nobody hears it."""
        ...


@dataclass(frozen=True)
class Company:
    """All that an owner works with."""

    journal: Journal
    hands: Hands
    account: Account
    telemetry: Telemetry
    uplink: Uplink
    timers: Timers
    clock: Clock
    rest: Callable[[], None]
    """Called when nothing has happened for a while."""
    logins: Callable[[ImageLogins | None], str] = lambda _given: ""
    """Takes over logins to image registries; returns what is wrong with them."""
    desk: Desk | None = None
    """What does commands beside checks; None: nothing does."""
