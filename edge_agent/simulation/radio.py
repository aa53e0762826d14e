"""The uplink of a simulated device: the words of edge_agent.uplink, over a line of the loop.

What a device says and hears is the same, and so is when; here nothing waits for the broker.
"""

import contextlib
import functools
import random
import threading
from collections.abc import Callable

from edge_agent import uplink
from edge_agent.reporter import Pace
from edge_agent.simulation.faults import Faults
from edge_agent.simulation.line import Line
from edge_agent.simulation.loop import Loop, Timer
from edge_agent.simulation.tries import Tries
from edge_agent.uplink import UplinkHooks
from runtime import messages, topics
from runtime.clock import Clock
from runtime.credentials import LinkSettings
from runtime.errors import LinkError
from runtime.link import STEADY_S
from runtime.linkevents import Connected, Disconnected, LinkEvent, Received
from runtime.messages import CommandResult, FetchRequest, FetchResponse
from runtime.retry import Backoff
from runtime.topics import Channel, DeviceId

MOST_WAIT_S = 300.0
"""As settings.reconnect_most_s."""
SAY_TIMEOUT_S = 10.0
"""As long as a real device waits for the broker to take a report."""
Answered = Callable[[FetchResponse | None], None]
"""Given the answer to a question; None: it did not come in time."""


class Traffic:
    """What has gone over a device's connections."""

    def __init__(self, tries: Tries) -> None:
        """Begin at nothing; count attempts to connect with those of all devices."""
        self.tries = tries
        self.messages = self.sent_bytes = self.received_bytes = self.connects = 0


class Radio:
    """One device's link; it ends with the device's power. All methods are the loop's."""

    def __init__(
        self,
        loop: Loop,
        settings: LinkSettings,
        device: DeviceId,
        *,
        clock: Clock,
        heartbeat_s: float,
        faults: Faults,
        traffic: Traffic,
        rng: random.Random,
    ) -> None:
        """Draw waits from `rng`, count in `traffic`, lose and delay by `faults`."""
        self._loop, self._device, self._heartbeat_s = loop, device, heartbeat_s
        self._clock = clock
        self._faults, self._traffic = faults, traffic
        self._pace = Pace(heartbeat_s, rng)
        self._hooks: UplinkHooks | None = None
        self._questions: dict[str, Answered] = {}
        self._due: Timer | None = None
        self._limit: Timer | None = None
        """When the report that is under way is given up."""
        self._reporting = 0
        """Number of the report that the broker has not taken yet; 0: none is under way."""
        self._reports = 0
        self._in_at = self._out_at = self._queue_s = 0.0
        self._rng = rng
        self._backoff = Backoff(first_s=1.0, most_s=MOST_WAIT_S / faults.hurry, rng=rng)
        self._line = Line(
            loop,
            settings,
            uplink.subscriptions(device),
            self._happened,
            will=(topics.render(device, Channel.PRESENCE), self._presence(online=False)),
            backoff=self._backoff,
            tried=traffic.tries.note,
            steady_s=STEADY_S / faults.hurry,
        )
        self.look()

    @property
    def connected(self) -> bool:
        """Whether the registry's broker is reached."""
        return self._line.connected

    def start(self, hooks: UplinkHooks, *, after_s: float) -> None:
        """Connect after a while, and ever again."""
        self._hooks = hooks
        self._line.start(after_s + self._queue_s)

    def stop(self, *, politely: bool) -> None:
        """End: with a goodbye, or as if the power had gone."""
        if politely and self._line.connected:
            self._say(Channel.PRESENCE, self._presence(online=False), lambda: None)
        self._hooks = None
        self._line.stop(politely=politely)

    def look(self) -> None:
        """Have no network, or have one, as the faults say."""
        self._line.bar(barred=self._faults.offline)

    def publish(self, batch: bytes) -> None:
        """Send a telemetry batch, without waiting; raise LinkError when not connected."""
        self._say(Channel.TELEMETRY, batch, lambda: None)

    def cut(self) -> None:
        """Break the connection that stands."""
        self._line.cut()

    def rebuild(self) -> None:
        """Make a new connection."""
        self._line.cut()

    def share(self, fleet: int) -> None:
        """Know that about so many devices share the broker."""
        self._backoff.spread(uplink.return_s(fleet))

    def queue(self, fleet: int) -> None:
        """Connect for the first time when one's turn comes; before `start`."""
        self._queue_s = self._rng.uniform(0.0, uplink.queue_s(fleet))

    def changed(self, *, urgent: bool) -> None:
        """Report soon, or at once."""
        if self._pace.changed(self._loop.clock.monotonic(), urgent=urgent):
            self._schedule()

    def answer(self, result: CommandResult) -> None:
        """Say what came of a command; raise LinkError if nobody hears it."""
        self._say(Channel.RESULT, messages.encode(result), lambda: None)

    def question(self, request: FetchRequest, answered: Answered) -> None:
        """Ask the registry; `answered` is called once."""
        timer = self._loop.later(uplink.ANSWER_TIMEOUT_S, lambda: self._reply(request.id, None))

        def reply(answer: FetchResponse | None) -> None:
            timer.cancel()
            answered(answer)

        self._questions[request.id] = reply
        try:
            self._say(Channel.REQUEST, messages.encode(request), lambda: None)
        except LinkError:
            self._loop.later(0.0, lambda: self._reply(request.id, None))

    def ask(self, request: FetchRequest) -> FetchResponse:
        """As Uplink.ask, for a thread that may wait; raise LinkError if no answer comes."""
        done, got = threading.Event(), list[FetchResponse]()

        def answered(answer: FetchResponse | None) -> None:
            got.extend([answer] if answer is not None else [])
            done.set()

        self._loop.call(lambda: self.question(request, answered))
        if not done.wait(2 * uplink.ANSWER_TIMEOUT_S) or not got:
            raise LinkError("the registry did not answer in time")
        return got[0]

    def _reply(self, request: str, answer: FetchResponse | None) -> None:
        if (answered := self._questions.pop(request, None)) is not None:
            answered(answer)

    def _happened(self, event: LinkEvent) -> None:
        if (hooks := self._hooks) is None:
            return
        match event:
            case Connected():
                self._traffic.connects += 1
                self._pace.connected()
                self._reporting = 0
                hooks.connected()
                self._schedule()
            case Disconnected():
                self._pace.disconnected()
                self._reporting = 0
                hooks.disconnected(event.reason)
            case Received():
                self._traffic.messages += 1
                self._traffic.received_bytes += len(event.payload) + len(event.topic)
                if not self._faults.loses():
                    self._in_at = self._in_order(self._in_at, lambda: self._hear(event))

    def _hear(self, message: Received) -> None:
        if self._hooks is not None:
            uplink.hear(message, self._hooks, lambda answer: self._reply(answer.id, answer))

    def _schedule(self) -> None:
        """Look again when the next report is due."""
        if self._due is not None:
            self._due.cancel()
        wait_s = self._pace.wait_s(self._loop.clock.monotonic())
        if wait_s is not None and not self._reporting:
            self._due = self._loop.later(wait_s, self._report)

    def _report(self) -> None:
        now = self._loop.clock.monotonic()
        if self._hooks is None or self._reporting or self._pace.wait_s(now) != 0.0:
            self._schedule()
            return
        presence = self._pace.take(now)
        self._reports += 1
        number = self._reporting = self._reports
        give_up = functools.partial(self._gave_up, number, presence=presence)
        self._limit = self._loop.later(SAY_TIMEOUT_S, give_up)
        try:
            if presence:
                self._say(Channel.PRESENCE, self._presence(online=True), lambda: None)
            report = messages.encode(self._hooks.compose())
            self._say(Channel.REPORTED, report, lambda: self._taken(number))
        except LinkError:
            give_up()

    def _taken(self, number: int) -> None:
        if self._reporting == number:
            self._reporting = 0
            if self._limit is not None:
                self._limit.cancel()
            self._schedule()

    def _gave_up(self, number: int, *, presence: bool) -> None:
        if self._reporting == number:
            self._reporting = 0
            self._pace.failed(self._loop.clock.monotonic(), presence=presence)
            self._schedule()

    def _say(self, channel: Channel, payload: bytes, done: Callable[[], None]) -> None:
        if not self._line.connected:
            raise LinkError(f"{channel.value}: not said: not connected")
        topic = topics.render(self._device, channel)
        self._traffic.messages += 1
        self._traffic.sent_bytes += len(payload) + len(topic)
        if self._faults.loses():
            return
        retain = channel in topics.RETAINED

        def post() -> None:
            with contextlib.suppress(LinkError):  # as if it had been lost on the way
                self._line.post(topic, payload, done, retain=retain)

        self._out_at = self._in_order(self._out_at, post)

    def _in_order(self, before: float, do: Callable[[], None]) -> float:
        """Do something as late as the link is, and not before what came before it."""
        late_s = self._faults.late_s()
        if late_s == 0.0:
            do()
            return before
        now = self._loop.clock.monotonic()
        at = max(before, now + late_s)
        self._loop.later(at - now, do)
        return at

    def _presence(self, *, online: bool) -> bytes:
        at = self._clock.now()
        return uplink.presence(online=online, at=at, heartbeat_s=self._heartbeat_s)
