"""The one door to paho: one connection from connect to disconnect, and what it tells.

Each connection has a paho client of its own: so certificates are read afresh, nothing that failed
is sent later behind its caller's back, and an answer to an old connection cannot reach a new one.
"""

import contextlib
import itertools
import logging
import os
import select
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from runtime import batches, credentials, sent, tlssocket
from runtime.credentials import LinkSettings
from runtime.ear import Ear
from runtime.errors import LinkError, PartlyPublishedError
from runtime.linkevents import Connected, Inbox, Received
from runtime.tlssocket import GatheringSocket

log = logging.getLogger(__name__)

MAX_PAYLOAD_BYTES = batches.MAX_BATCH_BYTES + 4096
"""Of one message, either way; receivers have tighter limits by kind."""
CONNECT_TIMEOUT_S = 10.0
GOODBYE_S = 1.0
MAX_WAITING = 1000
"""QoS 1 messages under way on one connection."""
TOGETHER = 256
"""So many of them at most are of one `publish_all`."""


class Connection:
    """One paho client; its methods are for the one thread that serves it, unless they say so."""

    def __init__(
        self,
        settings: LinkSettings,
        number: int,
        subscriptions: Sequence[tuple[str, int]],
        hand_over: Inbox,
    ) -> None:
        """Prepare; `number` tells this connection from the ones before it."""
        self.number, self.ready = number, False
        self._settings, self._subscriptions, self._hand_over = settings, subscriptions, hand_over
        self._ready_at = 0.0
        self._reason = self._trouble = ""
        self._politely = False
        self._early: list[Received] = []
        self._posted: dict[int, Callable[[], None]] = {}
        self._deadline = float("inf")
        self._ended = threading.Event()
        self._wake_lock = threading.Lock()
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=credentials.session_name(settings),
            clean_session=settings.clean_session,
            reconnect_on_failure=False,
            manual_ack=not settings.clean_session,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_queued_messages_set(MAX_WAITING)
        # No limit: with one, paho looks through all that is under way at each acknowledgement.
        client.max_inflight_messages_set(0)
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_message, client.on_publish = self._on_message, self._on_publish
        client.enable_logger(Ear(self._failed))
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Without this callback paho writes from the thread that publishes, and one TLS socket is
        # not for two threads. It need not do anything, since publish() wakes the loop.
        client.on_socket_register_write = lambda *_: None

    def open(self, will: tuple[str, bytes] | None) -> None:
        """Connect; raise LinkError that says what is in the way."""
        settings, client = self._settings, self._client
        if settings.tls:
            client.tls_set_context(credentials.context(settings))
        if will is not None:
            client.will_set(*will, qos=1, retain=True)
        place = f"{settings.host}:{settings.port}"
        try:
            client.connect(settings.host, settings.port, settings.keepalive_s)
        except ssl.SSLCertVerificationError as error:
            raise LinkError(f"broker {place}: not trusted: {error.verify_message}") from error
        except TimeoutError as error:
            raise LinkError(f"broker {place}: no answer in {CONNECT_TIMEOUT_S:g} s") from error
        except (OSError, ValueError) as error:
            raise LinkError(f"broker {place}: {credentials.refusal(str(error))}") from error
        if isinstance(sock := client.socket(), GatheringSocket):
            sock.gather()
        self._deadline = time.monotonic() + CONNECT_TIMEOUT_S

    def serve(self) -> str:
        """Read and write until the connection ends; return why."""
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        while (sock := self.socket()) is not None:
            writing = select.POLLOUT if self.wants_write() else 0
            poll.register(sock.fileno(), select.POLLIN | writing)
            found = poll.poll(0 if tlssocket.pending(sock) else self._patience_ms())
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
            self.work(readable=any(fd == sock.fileno() for fd, _ in found))
        return self.farewell()

    def socket(self) -> Any:
        """Return what to wait on, for a loop of many connections; None: it is over."""
        if not self.ready and time.monotonic() > self._deadline:
            self._reason = f"the broker did not accept us within {CONNECT_TIMEOUT_S:g} s"
        return None if self._reason else self._client.socket()

    def wants_write(self) -> bool:
        """Say whether something waits to be written."""
        sock = self._client.socket()
        return self._client.want_write() or (isinstance(sock, GatheringSocket) and sock.holds)

    def work(self, *, readable: bool) -> None:
        """Read what is there, write what fits, keep the connection alive."""
        if readable or tlssocket.pending(self._client.socket()):
            self._client.loop_read()
        while tlssocket.pending(self._client.socket()):
            self._client.loop_read()
        self.write()
        self._client.loop_misc()

    def write(self) -> None:
        """Write what fits."""
        if self._client.want_write():
            self._client.loop_write()
        if isinstance(sock := self._client.socket(), GatheringSocket):
            try:
                sock.flush()
            except OSError as error:
                self._reason = f"the connection broke: {error}"

    def farewell(self) -> str:
        """Say goodbye if that was wished; return why the connection is over."""
        if self._politely:
            self._say_goodbye()
        return self._reason or self._trouble or "the broker closed the connection"

    def _patience_ms(self) -> int:
        """How long to sleep at most: a part of what a keep-alive may be late."""
        return self._settings.keepalive_s * (200 if self.ready else 50)

    def _say_goodbye(self) -> None:
        """Send DISCONNECT, so that the broker keeps the last will to itself."""
        deadline, poll = time.monotonic() + GOODBYE_S, select.poll()
        self._client.disconnect()
        while (sock := self._client.socket()) is not None and time.monotonic() < deadline:
            poll.register(sock.fileno(), select.POLLOUT)
            poll.poll(50)
            self.write()

    def close(self, reason: str, *, politely: bool = False) -> None:
        """End it soon; from any thread."""
        self._politely, self._reason = politely, reason
        self._wake()

    def discard(self) -> None:
        """Let go of all it holds; whoever waits for a publish learns that it failed."""
        self.ready = False
        self._ended.set()
        if (sock := self._client.socket()) is not None:
            sock.close()
        with self._wake_lock:
            os.close(self._wake_fd)
            self._wake_fd = -1

    def stood_s(self) -> float:
        """For how long we have been accepted, in seconds."""
        return time.monotonic() - self._ready_at if self._ready_at else 0.0

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, timeout_s: float
    ) -> None:
        """As Link.publish; from any thread."""
        message = self._client.publish(topic, payload, qos, retain)
        self._wake()
        try:
            sent.wait_for(message, self._ended, timeout_s)
        except LinkError as error:
            raise LinkError(f"{topic}: {error}") from error

    def publish_all(
        self, messages: Sequence[tuple[str, bytes]], *, retain: bool, timeout_s: float
    ) -> None:
        """As Link.publish_all; from any thread. The broker is never without work meanwhile."""
        under_way, begun = deque[sent.Sent](), 0
        left = iter(messages)
        try:
            while some := list(itertools.islice(left, TOGETHER // 2)):
                under_way.extend(self._client.publish(*message, 1, retain) for message in some)
                begun += len(some)
                self._wake()
                sent.wait_for_some(under_way, self._ended, timeout_s, but=TOGETHER // 2)
            sent.wait_for_some(under_way, self._ended, timeout_s)
        except LinkError as error:
            sent.drop_taken(under_way)
            taken = begun - len(under_way)
            raise PartlyPublishedError(str(error), taken=taken) from error

    def post(self, topic: str, payload: bytes, done: Callable[[], None], *, retain: bool) -> None:
        """Publish at QoS 1 without waiting, from the thread that serves; `done` once it is taken.

        Raises LinkError if too much is under way. What a connection leaves untold never is.
        """
        message = self._client.publish(topic, payload, 1, retain)
        if message.rc not in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN}:
            raise LinkError(f"{topic}: not published: {paho.error_string(message.rc)}")
        self._posted[message.mid] = done

    def ack(self, messages: Sequence[Received]) -> None:
        """As Link.ack; from any thread."""
        for message in messages:
            self._client.ack(message.mid, message.qos)
        self._wake()

    def _wake(self) -> None:
        with self._wake_lock:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _more: Any
    ) -> None:
        if code.is_failure:
            self._reason = credentials.refusal(f"refused: {code}")
        elif self._subscriptions:
            client.subscribe(list(self._subscriptions))
        else:
            self._now_ready()

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, _mid: int, codes: list[ReasonCode], _more: Any
    ) -> None:
        asked = zip(self._subscriptions, codes, strict=False)
        refused = [name for (name, _), code in asked if code.is_failure]
        if refused:
            self._reason = f"the broker refused the subscription to {', '.join(refused)}"
        else:
            self._now_ready()

    def _now_ready(self) -> None:
        self.ready, self._ready_at = True, time.monotonic()
        self._hand_over(Connected())
        early, self._early = self._early, []
        for message in early:
            self._hand_over(message)

    def _on_message(self, client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if len(message.payload) > MAX_PAYLOAD_BYTES:
            log.warning("oversized message dropped", extra={"size_bytes": len(message.payload)})
            client.ack(message.mid, message.qos)
            return
        received = Received(
            message.topic,
            bytes(message.payload),
            message.mid,
            message.retain,
            message.qos,
            self.number,
        )
        if self.ready:
            self._hand_over(received)
        else:  # a resumed session may deliver before it answers the subscription
            self._early.append(received)

    def _on_publish(
        self, _client: paho.Client, _data: Any, mid: int, _code: ReasonCode, _more: Any
    ) -> None:
        if (done := self._posted.pop(mid, None)) is not None:
            done()

    def _failed(self, text: str) -> None:
        self._trouble = credentials.refusal(text)
