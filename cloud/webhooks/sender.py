"""Tells webhooks of events: a thread that sees who is due, and a few that send.

What is told next is in the database alone, so a registry that was killed goes on where it was; the
one message that was under way is sent again. One webhook's messages go one after the other; a slow
or dead receiver holds up nobody else, as long as there are threads.
"""

import datetime as dt
import hashlib
import logging
import queue
import random
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, select

from cloud import tables
from cloud.errors import SealError
from cloud.registry import deliveries, events
from cloud.registry.deliveries import Letter
from cloud.services import Change, Services
from cloud.webhooks import addresses, post, signing
from cloud.webhooks.post import Answer
from cloud.webhooks.schedule import Schedule
from runtime import messages

log = logging.getLogger(__name__)

SENDERS = 8
LOOK_S = 5.0
"""A change that nobody told of is found after this long."""
BATCH = 50
"""Messages to one webhook before others have a turn."""
TRIAL = "webhook.test"
_GATHER_S = 0.02
_TROUBLE_S = 5.0


@dataclass(frozen=True)
class _Envelope:
    """All that is needed to send one message."""

    url: str
    secret: str
    letter: Letter


class Sender:
    """Sends until told to stop; any thread may wake it."""

    def __init__(
        self,
        services: Services,
        *,
        patience: Schedule | None = None,
        timeout_s: float = post.TIMEOUT_S,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`context`: whose certificates are trusted; None: those this machine trusts."""
        self._services, self._patience = services, patience or Schedule()
        self._timeout_s, self._context = timeout_s, context
        self._private = addresses.networks(services.settings.webhook_networks)
        self._rng = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._work = threading.Condition()
        self._woken = True
        self._busy: set[str] = set()
        self._queue: queue.Queue[str | None] = queue.Queue()

    def wake(self) -> None:
        """Tell that there may be something to send."""
        with self._work:
            self._woken = True
            self._work.notify()

    def stop(self) -> None:
        """Let `run` see that it shall stop."""
        self.wake()

    def run(self, stopping: threading.Event) -> None:
        """Send until `stopping`; a message under way then is sent again at the next start.

        Set `stopping`, then call `stop`: it may be waiting for work.
        """
        self._services.notifier.subscribe(Change.EVENTS, self.wake)
        for number in range(SENDERS):
            # Daemons: a receiver that takes its time does not hold up the end of the process.
            threading.Thread(
                target=self._send_all, args=(stopping,), name=f"webhook-{number}", daemon=True
            ).start()
        try:
            wait_s = 0.0
            while not stopping.is_set():
                self._wait(wait_s)
                stopping.wait(_GATHER_S)
                wait_s = self._look()
        finally:
            for _ in range(SENDERS):
                self._queue.put(None)

    def _wait(self, wait_s: float) -> None:
        with self._work:
            self._work.wait_for(lambda: self._woken, wait_s)
            self._woken = False

    def _look(self) -> float:
        """Queue who is due; return after how many seconds to look again."""
        try:
            with self._services.reading() as session:
                return self._queue_due(session)
        except OperationalError as error:
            log.warning("webhooks cannot be read", extra={"why": str(error.orig)})
            return _TROUBLE_S

    def _queue_due(self, session: Session) -> float:
        now, newest = self._services.clock.now(), events.newest(session)
        next_look_s = LOOK_S
        for row in session.exec(select(tables.Webhook).where(col(tables.Webhook.active))):
            if row.next_at > now:
                next_look_s = min(next_look_s, row.next_at - now)
                continue
            with self._work:
                free = row.id not in self._busy
            if free and (row.cursor < newest or deliveries.dead(session, row.id)):
                with self._work:
                    self._busy.add(row.id)
                self._queue.put(row.id)
        return next_look_s

    def _send_all(self, stopping: threading.Event) -> None:
        while (webhook := self._queue.get()) is not None:
            again = False
            try:
                again = self._send_some(webhook, stopping)
            except (OperationalError, SealError) as error:
                log.warning("webhook cannot be told", extra={"webhook": webhook, "why": str(error)})
                stopping.wait(_TROUBLE_S)
            except Exception:
                log.exception("webhook cannot be told", extra={"webhook": webhook})
                stopping.wait(_TROUBLE_S)
            with self._work:
                self._busy.discard(webhook)
            if again:
                self.wake()

    def _send_some(self, webhook: str, stopping: threading.Event) -> bool:
        """Send up to BATCH messages, none after `stopping`; say whether there may be more."""
        return all(not stopping.is_set() and self.send_next(webhook) for _ in range(BATCH))

    def send_next(self, webhook: str) -> bool:
        """Send the next message and write down what came of it; say whether it was taken."""
        envelope = self._choose(webhook)
        if envelope is None:
            return False
        event = envelope.letter.event
        identity, body = message(event)
        answer = self._post(envelope.url, envelope.secret, identity, body)
        level = logging.DEBUG if answer.good else logging.INFO
        log.log(level, "webhook told", extra={
            "webhook": webhook, "event": event.id, "status": answer.status,
        })  # fmt: skip
        with self._services.transaction() as session:
            row = session.get(tables.Webhook, webhook)
            if row is not None:
                deliveries.settle(
                    session,
                    row,
                    envelope.letter,
                    answer,
                    patience=self._patience,
                    chance=self._rng.random(),
                    now=self._services.clock.now(),
                )
        return answer.good

    def try_out(self, row: tables.Webhook, *, now: float) -> Answer:
        """Send a message that is no event, and return how that went."""
        body = _body(TRIAL, now, {"id": 0, "kind": TRIAL, "subject": row.id, "at": now})
        secret = self._services.sealer.unseal(row.secret, row.id).decode()
        return self._post(row.url, secret, f"test_{row.id}_{now:.6f}", body)

    def _post(self, url: str, secret: str, identity: str, body: bytes) -> Answer:
        stamp = int(self._services.clock.now())
        signed = signing.headers(secret, message=identity, timestamp=stamp, body=body)
        headers = {
            **signed,
            "Content-Type": "application/json",
            "User-Agent": "packhorse-webhooks/1",
            "Connection": "close",
        }
        return post.post(
            url,
            body,
            headers,
            private=self._private,
            timeout_s=self._timeout_s,
            context=self._context,
        )

    def _choose(self, webhook: str) -> _Envelope | None:
        with self._services.reading() as session:
            row = session.get(tables.Webhook, webhook)
            if row is None or not row.active or row.next_at > self._services.clock.now():
                return None
            newest = events.newest(session)
            letter = deliveries.next_letter(session, row)
            if letter is not None:
                session.expunge(letter.event)
                secret = self._services.sealer.unseal(row.secret, row.id).decode()
                return _Envelope(row.url, secret, letter)
            many = newest - row.cursor
        if many >= deliveries.SKIPPED:
            self._pass_over(webhook, newest)
        return None

    def _pass_over(self, webhook: str, newest: int) -> None:
        with self._services.transaction() as session:
            row = session.get(tables.Webhook, webhook)
            if row is not None and deliveries.next_letter(session, row) is None:
                row.cursor = max(row.cursor, newest)
                session.add(row)


def message(event: tables.Event) -> tuple[str, bytes]:
    """Return the id and the body of an event's message: the same whenever it is sent.

    A registry that was restored from a backup gives a number again to another event; so the id
    holds a digest of what is told too.
    """
    body = _body(event.kind, event.at, event.model_dump(mode="json"))
    return f"evt_{event.id}_{hashlib.sha256(body).hexdigest()[:8]}", body


def _body(kind: str, at: float, data: Mapping[str, object]) -> bytes:
    stamp = dt.datetime.fromtimestamp(at, tz=dt.UTC).isoformat().replace("+00:00", "Z")
    # Canonical: a row has its columns in no order that another process would have too.
    return messages.canonical_json({"type": kind, "timestamp": stamp, "data": data})
