"""A lasting MQTT connection: it comes back by itself.

    Link ── thread "mqtt-…" ── connect ─► Connected ─► Received… ─► Disconnected(reason) ─┐
                                  ▲                                                       │
                                  └───────────────── full-jitter wait ◄──────────────────┘

The thread does all reading and writing; whoever publishes hands over and waits.
"""

import logging
import threading
from collections.abc import Sequence

from runtime.credentials import LinkSettings
from runtime.errors import InvalidError, LinkError, PartlyPublishedError
from runtime.linkevents import Connected, Disconnected, Inbox, LinkEvent, Received
from runtime.mqtt import MAX_PAYLOAD_BYTES, Connection
from runtime.retry import Backoff

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "Connected",
    "Disconnected",
    "Link",
    "LinkEvent",
    "LinkSettings",
    "Received",
]

log = logging.getLogger(__name__)

STEADY_S = 60.0
"""A connection that stood this long was a good one: the next wait is short again."""
LIVELY_S, PATIENCE = 5.0, 4.0
"""After one that stood so long at least, the next wait is at most so many times as long."""


def settle(backoff: Backoff, stood_s: float, *, steady_s: float) -> None:
    """Take note of how long a connection stood that is over.

    A line that breaks every few seconds carries something each time: who stayed away ever longer
    would hardly be there. Who is cut off at once, again and again, has to stay away longer.
    """
    if stood_s >= steady_s:
        backoff.reset()
    elif stood_s >= LIVELY_S:
        backoff.limit(PATIENCE * stood_s)


class Link:
    """A lasting connection to one broker; events go to `inbox` from the link's own thread."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        subscriptions: Sequence[tuple[str, int]],
        inbox: Inbox,
        will: tuple[str, bytes] | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """Subscribe `(filter, qos)` at each connect; leave `will` (topic, payload), retained.

        `inbox` must only hand over. An exception from it costs the connection, not the thread.
        """
        self._settings, self._inbox = settings, inbox
        self._subscriptions, self._will = tuple(subscriptions), will
        self._backoff = backoff or Backoff()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"mqtt-{settings.client_id}", daemon=True
        )
        self._connection: Connection | None = None
        self._count = 0
        self._delay_s = 0.0
        self._told = ""

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and all subscriptions, as far as we know."""
        connection = self._connection
        return connection is not None and connection.ready

    def start(self) -> None:
        """Connect now and ever again; returns at once."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Disconnect politely (no last will) and end the thread; returns within `timeout_s`."""
        self._stopping.set()
        if (connection := self._connection) is not None:
            connection.close("stopped", politely=True)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.warning("mqtt link still busy at stop", extra={"client": self._settings.client_id})

    def spread(self, first_s: float) -> None:
        """Come back within such a time at first, when a connection is lost."""
        self._backoff.spread(first_s)

    def delay(self, delay_s: float) -> None:
        """Begin to connect only so long after `start`."""
        self._delay_s = delay_s

    def rebuild(self) -> None:
        """Drop the connection and make a new one: for a watchdog that sees no progress."""
        if (connection := self._connection) is not None:
            connection.close("rebuilt because it made no progress")

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        """Return once the broker has it (QoS 1) or it is sent (QoS 0).

        Raises LinkError if that is not so within `timeout_s`, at once when not connected; the
        message may have arrived all the same. Raises InvalidError if it is too large to send.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise InvalidError(
                topic, f"{len(payload)} bytes", f"send at most {MAX_PAYLOAD_BYTES} bytes"
            )
        connection = self._connection
        if connection is None or not connection.ready:
            raise LinkError(f"{topic}: not published: not connected ({self._told or 'yet'})")
        connection.publish(topic, payload, qos=qos, retain=retain, timeout_s=timeout_s)

    def publish_all(
        self,
        messages: Sequence[tuple[str, bytes]],
        *,
        retain: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        """Publish many (topic, payload) at QoS 1, without waiting between them.

        Raises PartlyPublishedError as `publish` raises LinkError; it says how many of the first
        the broker has.
        """
        connection = self._connection
        if connection is None or not connection.ready:
            raise PartlyPublishedError(f"not connected ({self._told or 'yet'})", taken=0)
        connection.publish_all(messages, retain=retain, timeout_s=timeout_s)

    def ack(self, *messages: Received) -> None:
        """Let the broker forget messages. Those whose connection is gone will come again."""
        connection = self._connection
        if connection is not None:
            connection.ack([one for one in messages if one.connection == connection.number])

    def _run(self) -> None:
        self._stopping.wait(self._delay_s)
        while not self._stopping.is_set():
            try:
                reason = self._connect_and_serve()
            except LinkError as error:
                reason = str(error)
            except Exception as error:  # the outermost loop: nothing may end this thread
                log.exception("mqtt link failed", extra={"client": self._settings.client_id})
                reason = f"internal error: {error!r}"
            self._tell_lost(reason)
            self._stopping.wait(self._backoff.next())

    def _connect_and_serve(self) -> str:
        """Live through one connection; return why it ended, or raise LinkError if it never was."""
        self._count += 1
        connection = Connection(self._settings, self._count, self._subscriptions, self._hand_over)
        try:
            connection.open(self._will)
            self._connection = connection
            if self._stopping.is_set():
                connection.close("stopped", politely=True)
            return connection.serve()
        finally:
            self._connection = None
            connection.discard()
            settle(self._backoff, connection.stood_s(), steady_s=STEADY_S)

    def _hand_over(self, event: LinkEvent) -> None:
        if isinstance(event, Connected):
            self._told = ""
            log.info("mqtt connected", extra={"client": self._settings.client_id})
        self._inbox(event)

    def _tell_lost(self, reason: str) -> None:
        if reason == self._told:
            return
        self._told = reason
        log.warning(
            "mqtt disconnected", extra={"client": self._settings.client_id, "reason": reason}
        )
        try:
            self._inbox(Disconnected(reason))
        except Exception:  # as in _run: the thread outlives its inbox
            log.exception("mqtt inbox failed", extra={"client": self._settings.client_id})
