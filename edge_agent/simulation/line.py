"""A lasting MQTT connection in a loop of many: what runtime.link.Link is in a thread.

waiting ─► opening (a thread: TCP, TLS) ─► serving ─► waiting …
   └──────────── full-jitter back-off, the same as a device's ───────┘
"""

from collections.abc import Callable, Sequence

from edge_agent.simulation.loop import Loop, Timer
from runtime.credentials import LinkSettings
from runtime.errors import LinkError
from runtime.link import STEADY_S, settle
from runtime.linkevents import Disconnected, Inbox, LinkEvent
from runtime.mqtt import Connection
from runtime.retry import Backoff

MISC_SHARE = 5
"""So many times in a keep-alive a connection is looked after."""


class Line:
    """The connection of one device; all methods are the loop's."""

    def __init__(
        self,
        loop: Loop,
        settings: LinkSettings,
        subscriptions: Sequence[tuple[str, int]],
        inbox: Inbox,
        *,
        will: tuple[str, bytes],
        backoff: Backoff,
        tried: Callable[[float], None],
        steady_s: float = STEADY_S,
    ) -> None:
        """As runtime.link.Link; `inbox` is called in the loop's thread.

        `tried` is told of each attempt to connect when it was due, by the loop's clock.
        """
        self._loop, self._settings, self._subscriptions = loop, settings, tuple(subscriptions)
        self._inbox, self._will, self._backoff = inbox, will, backoff
        self._tried, self._steady_s = tried, steady_s
        self._connection: Connection | None = None
        self._fd, self._writing = -1, False
        self._timer: Timer | None = None
        self._stopped = self._working = self._barred = False
        self.connects = 0

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and all subscriptions."""
        return self._connection is not None and self._connection.ready

    def start(self, after_s: float = 0.0) -> None:
        """Connect, after a while, and ever again."""
        self._begin_after(after_s)

    def stop(self, *, politely: bool) -> None:
        """End for good: with a goodbye, or as if the power had gone."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if (connection := self._connection) is not None:
            connection.close("stopped", politely=politely)
            if politely:
                connection.farewell()
            self._let_go(connection)

    def bar(self, *, barred: bool) -> None:
        """Have no network from now on, or have one again; who tries meanwhile fails."""
        self._barred = barred
        if barred:
            self.cut()

    def cut(self) -> None:
        """Break the connection that stands, if one does."""
        if (connection := self._connection) is not None:
            connection.close("cut")
            self._over(connection, "cut")

    def post(self, topic: str, payload: bytes, done: Callable[[], None], *, retain: bool) -> None:
        """Publish at QoS 1 without waiting; raise LinkError if that cannot be begun."""
        connection = self._connection
        if connection is None or not connection.ready:
            raise LinkError(f"{topic}: not published: not connected")
        connection.post(topic, payload, done, retain=retain)
        if not self._working:
            connection.write()
            self._rewatch(connection)

    def work(self, *, readable: bool) -> None:
        """Read and write; called when the socket is ready."""
        connection = self._connection
        if connection is None:
            return
        self._working = True
        try:
            connection.work(readable=readable)
        finally:
            self._working = False
        if self._connection is not connection:  # what was read had it cut
            return
        if connection.socket() is None:
            self._over(connection, connection.farewell())
        else:
            self._rewatch(connection)

    def _begin_after(self, wait_s: float) -> None:
        due = self._loop.clock.monotonic() + wait_s
        self._timer = self._loop.later(wait_s, lambda: self._begin(due))

    def _begin(self, due: float) -> None:
        if self._barred:
            self._again("no network")
            return
        self._tried(due)
        self.connects += 1
        made = Connection(self._settings, self.connects, self._subscriptions, self._hand_over)

        def open_it() -> None:
            try:
                made.open(self._will)
            except LinkError as error:
                reason = str(error)
                self._loop.call(lambda: self._not_opened(made, reason))
            else:
                self._loop.call(lambda: self._opened(made))

        self._loop.in_background(open_it)

    def _not_opened(self, connection: Connection, reason: str) -> None:
        connection.discard()
        self._again(reason)

    def _opened(self, connection: Connection) -> None:
        sock = connection.socket()
        if self._stopped or self._barred or sock is None:
            self._not_opened(connection, "gone before it stood")
            return
        self._connection, self._fd = connection, sock.fileno()
        self._writing = True
        self._loop.watch(self._fd, self, writing=True)
        self._look_after()

    def _look_after(self) -> None:
        """Keep the connection alive, and notice when it is not."""
        pause_s = self._settings.keepalive_s / MISC_SHARE
        self._timer = self._loop.later(pause_s, self._look_after)
        self.work(readable=False)

    def _over(self, connection: Connection, reason: str) -> None:
        self._let_go(connection)
        settle(self._backoff, connection.stood_s(), steady_s=self._steady_s)
        self._again(reason)

    def _let_go(self, connection: Connection) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.unwatch(self._fd, self)
        self._connection = None
        connection.discard()

    def _again(self, reason: str) -> None:
        if self._stopped:
            return
        self._begin_after(self._backoff.next())
        self._inbox(Disconnected(reason))

    def _hand_over(self, event: LinkEvent) -> None:
        if not self._stopped:
            self._inbox(event)

    def _rewatch(self, connection: Connection) -> None:
        writing = connection.wants_write()
        if writing != self._writing:
            self._writing = writing
            self._loop.rewatch(self._fd, writing=writing)
