"""Everything that devices publish, sorted into queues by what it carries.

A connection with a lasting session for each kind: the broker keeps each message until it is acked,
which happens after the commit that it led to. One session for all would be one too few: NATS counts
what is not acked yet by session and by subscription, with the same limit, and what it takes out of
its store beyond the session's is late by `ack_wait`, ten seconds.

A link's thread only puts into bounded queues; when one is full that thread waits, the socket fills,
and the broker holds the rest: back-pressure without a line of code at the broker. So nothing that a
full queue depends on may be sent over these links; the registry publishes over another (see
cloud.serve).
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime import topics
from runtime.errors import InvalidError
from runtime.link import Connected, Disconnected, LinkEvent, Received
from runtime.topics import Channel, DeviceId

log = logging.getLogger(__name__)

CLIENT_ID = "packhorse-ingest"
"""Under which older registries kept one session for all channels."""
DEPTH = 256
"""Messages that wait in one queue."""
_LOOK_S = 0.5


def client_id(channel: Channel) -> str:
    """Return the fixed name under which the broker keeps the session of a channel.

    That of results is no lasting one, and has the registry's own name behind it.
    """
    return f"{CLIENT_ID}-{channel.value.replace('/', '-')}"


def channel(topic: str) -> Channel:
    """Return by which channel a topic came, also one that names no device that there can be."""
    word = topic.split("/")[3]
    return next(each for each in topics.FROM_DEVICE if each.value.partition("/")[0] == word)


def subscriptions(channel: Channel) -> list[tuple[str, int]]:
    """Return what the session of a channel subscribes, with its QoS."""
    return [(topics.every_device(channel), 1)]


@dataclass(frozen=True)
class Arrival:
    """A message from a device, as its topic says; the broker sees to it that no other can."""

    device: DeviceId
    message: Received
    received_at: float
    """Registry clock, seconds since 1970."""


Inbox = queue.Queue[Arrival]


@dataclass
class Intake:
    """The inbox of the ingest link."""

    stopping: threading.Event
    ack: Callable[[Received], None]
    now: Callable[[], float]
    on_connected: Callable[[], None] = lambda: None
    telemetry: Inbox = field(default_factory=lambda: queue.Queue(DEPTH))
    states: Inbox = field(default_factory=lambda: queue.Queue(DEPTH))
    """Reports and presences, each in the order in which they came."""
    requests: Inbox = field(default_factory=lambda: queue.Queue(DEPTH))
    on_part_wanted: Callable[[Arrival], None] = lambda _arrival: None
    """Takes a question for a piece of a blob, as `on_result` does."""
    on_result: Callable[[Arrival], None] = lambda _arrival: None
    """Takes what came of a command, in the link's thread: quick."""

    def put(self, event: LinkEvent) -> None:
        """Take an event from the link's thread; wait while the queue that it belongs in is full."""
        match event:
            case Received():
                self._sort(event)
            case Connected():
                self.on_connected()
            case Disconnected():
                pass

    def _sort(self, message: Received) -> None:
        try:
            topic = topics.parse(message.topic)
        except InvalidError:
            log.warning("message on a strange topic dropped", extra={"topic": message.topic[:200]})
            self.ack(message)
            return
        arrival = Arrival(topic.device, message, self.now())
        match topic.channel:
            case Channel.TELEMETRY:
                self._wait_for_room(self.telemetry, arrival)
            case Channel.REQUEST:
                self._wait_for_room(self.requests, arrival)
            case Channel.PART_WANTED:
                self.on_part_wanted(arrival)
                self.ack(message)
            case Channel.RESULT:
                self.on_result(arrival)
                self.ack(message)
            case _:
                self._wait_for_room(self.states, arrival)

    def _wait_for_room(self, inbox: Inbox, arrival: Arrival) -> None:
        while not self.stopping.is_set():
            try:
                inbox.put(arrival, timeout=_LOOK_S)
            except queue.Full:
                continue
            return


def take(inbox: Inbox, *, most: int, wait_s: float, not_before: float = -math.inf) -> list[Arrival]:
    """Return what is there, at most so many; wait for the first one only.

    While one group is being committed, the next one gathers. Where a commit is quick and costs as
    much as many arrivals, more gather until `not_before` (time.monotonic()), once there is a first.
    """
    group: list[Arrival] = []
    try:
        group.append(inbox.get(timeout=wait_s))
        if (left_s := not_before - time.monotonic()) > 0 and inbox.qsize() + 1 < most:
            time.sleep(left_s)
        while len(group) < most:
            group.append(inbox.get_nowait())
    except queue.Empty:
        pass
    return group
