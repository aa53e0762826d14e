"""Links that tests can wait on."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from runtime import link
from runtime.link import LinkEvent, LinkSettings, Received
from runtime.retry import Backoff

PATIENCE_S = 20.0

Event = TypeVar("Event", bound=LinkEvent)


class Mailbox:
    """An inbox of a link that tests can wait on; call it with events."""

    def __init__(self) -> None:
        """Start empty."""
        self.events: list[LinkEvent] = []
        self._news = threading.Condition()

    def __call__(self, event: LinkEvent) -> None:
        """Take an event."""
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def wait(
        self,
        kind: type[Event],
        which: Callable[[Event], bool] = lambda _: True,
        *,
        timeout_s: float = PATIENCE_S,
    ) -> Event:
        """Take out the first event of this kind, once there is one."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                for event in self.events:
                    if isinstance(event, kind) and which(event):
                        self.events.remove(event)
                        return event
                left_s = deadline - time.monotonic()
                assert left_s > 0, f"no {kind.__name__} in {timeout_s:g} s, but {self.events}"
                self._news.wait(left_s)

    def message(self, topic: str, *, timeout_s: float = PATIENCE_S) -> Received:
        """Take out the first message on a topic."""
        return self.wait(Received, lambda event: event.topic == topic, timeout_s=timeout_s)

    def received(self) -> list[Received]:
        """Return the messages that nobody took out yet."""
        with self._news:
            return [event for event in self.events if isinstance(event, Received)]


@contextlib.contextmanager
def linked(
    settings: LinkSettings,
    inbox: Mailbox,
    *,
    subscriptions: Sequence[tuple[str, int]] = (),
    will: tuple[str, bytes] | None = None,
) -> Iterator[link.Link]:
    """Run a link with short waits; it is connected when the block begins."""
    made = link.Link(
        settings,
        subscriptions=subscriptions,
        inbox=inbox,
        will=will,
        backoff=Backoff(first_s=0.05, most_s=0.5),
    )
    made.start()
    try:
        inbox.wait(link.Connected)
        yield made
    finally:
        made.stop()


def refusal(settings: LinkSettings, says: str = "") -> str:
    """Return why the broker does not take this client; fail if it does, or never `says` that.

    In TLS 1.3 a client has said its first words before a broker looks at its certificate. A broker
    that closes with those unread has the kernel throw away its alert, now and then: then the next
    try tells.
    """
    inbox = Mailbox()
    stranger = link.Link(settings, subscriptions=[], inbox=inbox, backoff=Backoff(0.05, 0.1))
    stranger.start()
    try:
        reason = inbox.wait(link.Disconnected, lambda event: says in event.reason).reason
        assert not any(isinstance(event, link.Connected) for event in inbox.events)
    finally:
        stranger.stop()
    return reason
