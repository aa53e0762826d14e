"""The agent's side of the wire: what it hears from the registry and what it says.

    desired, ack      heard: handed to the agent, which reads them in its own thread
    response          heard: given to whoever asked
    parts/given       heard: given to the download that asked, over parts/wanted
    command           heard: handed to the agent; answered by a result
    presence          said: online at each connect and heartbeat, offline as last will and at an end
    reported          said: by the reporter
    telemetry         said: by the telemetry path

The subscriptions are at QoS 0 in a clean session: no broker keeps a queue for a device. What may be
missed is said again: desired is retained, and the registry answers reports that lag.
"""

import contextlib
import logging
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_agent.partdesk import PartDesk
from edge_agent.reporter import Reporter
from runtime import messages, topics
from runtime.blobpieces import PartWanted
from runtime.clock import Clock, SystemClock
from runtime.errors import InvalidError, LinkError, PackhorseError
from runtime.link import Connected, Disconnected, Link, LinkEvent, LinkSettings, Received
from runtime.messages import (
    CommandResult,
    FetchRequest,
    FetchResponse,
    Presence,
    Reported,
)
from runtime.retry import Backoff
from runtime.topics import Channel, DeviceId

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 15.0
RETURNS_PER_S = 50.0
"""A fleet that lost its broker in one moment comes back at about this rate."""
MOST_QUEUE_S = 60.0
"""So long at most a device that was rebooted is away because others may have been, too."""
LEASES = 3
"""After so many heartbeats without a word the device counts as lost."""
HEARD = topics.TO_DEVICE


@dataclass(frozen=True)
class UplinkHooks:
    """Whom the uplink tells; called from its threads, so they only hand over."""

    connected: Callable[[], None]
    disconnected: Callable[[str], None]
    desired: Callable[[bytes], None]
    ack: Callable[[bytes], None]
    command: Callable[[bytes], None]
    compose: Callable[[], Reported]
    """Returns the device's state as it is now; any thread may call it."""


class Uplink(Protocol):
    """What the agent needs of the registry."""

    @property
    def connected(self) -> bool:
        """Whether the registry's broker is reached."""
        ...

    def start(self, hooks: UplinkHooks) -> None:
        """Connect, now and ever again; returns at once."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Say goodbye and end."""
        ...

    def ask(self, request: FetchRequest) -> FetchResponse:
        """Return the registry's answer; raise LinkError if there is none in time."""
        ...

    def publish(self, batch: bytes) -> None:
        """Return once the broker has a telemetry batch; raise LinkError if it may not."""
        ...

    def answer(self, result: CommandResult) -> None:
        """Say what came of a command, without waiting; raise LinkError if nobody hears it."""
        ...

    def changed(self, *, urgent: bool) -> None:
        """Report soon, or at once."""
        ...

    def rebuild(self) -> None:
        """Make a new connection: this one gets nothing through."""
        ...

    def share(self, fleet: int) -> None:
        """Know that about so many devices share the broker; 0: nobody knows."""
        ...

    def queue(self, fleet: int) -> None:
        """Connect for the first time when one's turn comes; before `start`."""
        ...


def subscriptions(device: DeviceId) -> list[tuple[str, int]]:
    """Return what a device subscribes, each with its QoS."""
    return [(topics.render(device, channel), 0) for channel in HEARD]


def return_s(fleet: int) -> float:
    """Return within which time a device of such a fleet comes back, at first, when cut off."""
    return max(1.0, fleet / RETURNS_PER_S)


def queue_s(fleet: int) -> float:
    """Return within which time a device of such a fleet connects after its power was away.

    Nobody knows whether that of all others was: a site, a city.
    """
    return min(MOST_QUEUE_S, return_s(fleet)) if fleet > RETURNS_PER_S else 0.0


def presence(*, online: bool, at: float, heartbeat_s: float) -> bytes:
    """Return what a device says of its connection, as it travels."""
    return messages.encode(Presence(online=online, at=at, lease_s=LEASES * heartbeat_s))


def hear(message: Received, hooks: UplinkHooks, answered: Callable[[FetchResponse], None]) -> None:
    """Hand a message to whom it concerns; what cannot be is logged."""
    # How large it may be is checked by whoever decodes it, and told there.
    try:
        channel = topics.parse(message.topic).channel
        if channel is Channel.DESIRED:
            hooks.desired(message.payload)
        elif channel is Channel.ACK:
            hooks.ack(message.payload)
        elif channel is Channel.COMMAND:
            hooks.command(message.payload)
        elif channel is Channel.RESPONSE:
            answered(messages.decode(FetchResponse, message.payload))
    except InvalidError as error:
        log.warning("message ignored", extra={"topic": message.topic, "reason": str(error)})


class _Question:
    """One request that waits for its answer."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.answer: FetchResponse | None = None


class MqttUplink:
    """The uplink over MQTT."""

    def __init__(
        self,
        settings: LinkSettings,
        device: DeviceId,
        *,
        heartbeat_s: float,
        reconnect_most_s: float = 300.0,
        clock: Clock | None = None,
    ) -> None:
        """Connect as `device`; `heartbeat_s` is the usual time between two reports."""
        self._device, self._heartbeat_s = device, heartbeat_s
        self._clock = clock or SystemClock()
        self._hooks: UplinkHooks | None = None
        self._questions: dict[str, _Question] = {}
        self.parts = PartDesk(self._want_part)
        self._part_topic = topics.render(device, Channel.PART_GIVEN)
        self._reporter = Reporter(self._report, heartbeat_s=heartbeat_s)
        self._link = Link(
            settings,
            subscriptions=subscriptions(device),
            inbox=self._inbox,
            will=(topics.render(device, Channel.PRESENCE), self._presence(online=False)),
            backoff=Backoff(first_s=1.0, most_s=reconnect_most_s),
        )

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us."""
        return self._link.connected

    def start(self, hooks: UplinkHooks) -> None:
        """Connect, now and ever again; returns at once."""
        self._hooks = hooks
        self._reporter.start()
        self._link.start()

    def stop(self, timeout_s: float) -> None:
        """Say that the device goes offline, and end."""
        self._reporter.stop(timeout_s)
        with contextlib.suppress(PackhorseError):
            self._say(Channel.PRESENCE, self._presence(online=False), timeout_s=timeout_s)
        self._link.stop(timeout_s)

    def ask(self, request: FetchRequest) -> FetchResponse:
        """Return the registry's answer; raise LinkError if there is none in time."""
        question = self._questions[request.id] = _Question()
        try:
            self._say(Channel.REQUEST, messages.encode(request))
            if not question.answered.wait(ANSWER_TIMEOUT_S) or question.answer is None:
                raise LinkError(f"the registry did not answer within {ANSWER_TIMEOUT_S:g} s")
            return question.answer
        finally:
            del self._questions[request.id]

    def publish(self, batch: bytes) -> None:
        """Return once the broker has a telemetry batch; raise LinkError if it may not."""
        self._say(Channel.TELEMETRY, batch)

    def answer(self, result: CommandResult) -> None:
        """Say what came of a command, without waiting; raise LinkError if nobody hears it."""
        topic = topics.render(self._device, Channel.RESULT)
        self._link.publish(topic, messages.encode(result), qos=0)

    def _want_part(self, wanted: PartWanted) -> None:
        topic = topics.render(self._device, Channel.PART_WANTED)
        self._link.publish(topic, messages.encode(wanted), qos=0)

    def changed(self, *, urgent: bool) -> None:
        """Report soon, or at once."""
        self._reporter.changed(urgent=urgent)

    def rebuild(self) -> None:
        """Make a new connection."""
        self._link.rebuild()

    def share(self, fleet: int) -> None:
        """Know that about so many devices share the broker."""
        self._link.spread(return_s(fleet))

    def queue(self, fleet: int) -> None:
        """Connect for the first time when one's turn comes; before `start`."""
        self._link.delay(random.uniform(0.0, queue_s(fleet)))  # noqa: S311 - spreads load

    def _report(self, hello: bool) -> None:  # noqa: FBT001 - one caller, which has only this to say
        if self._hooks is None:
            return
        if hello:
            self._say(Channel.PRESENCE, self._presence(online=True))
        self._say(Channel.REPORTED, messages.encode(self._hooks.compose()))

    def _say(self, channel: Channel, payload: bytes, *, timeout_s: float = 10.0) -> None:
        self._link.publish(
            topics.render(self._device, channel),
            payload,
            retain=channel in topics.RETAINED,
            timeout_s=timeout_s,
        )

    def _presence(self, *, online: bool) -> bytes:
        return presence(online=online, at=self._clock.now(), heartbeat_s=self._heartbeat_s)

    def _inbox(self, event: LinkEvent) -> None:
        hooks = self._hooks
        if hooks is None:
            return
        match event:
            case Connected():
                self._reporter.connected()
                hooks.connected()
            case Disconnected():
                self._reporter.disconnected()
                hooks.disconnected(event.reason)
            case Received() if event.topic == self._part_topic:
                self.parts.given(event.payload)
            case Received():
                hear(event, hooks, self._answered)

    def _answered(self, answer: FetchResponse) -> None:
        if (question := self._questions.get(answer.id)) is not None:
            question.answer = answer
            question.answered.set()
