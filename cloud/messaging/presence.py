"""What devices say of themselves, into their rows: reports and presence.

A report that tells nothing new (a heartbeat) costs no write of its own: the newest is kept in
memory and written with others every FLUSH_S seconds. A report that tells something new is written
at once, with the history of what converged or failed. Whoever reports an older generation than the
one desired has missed a message and gets it again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy.exc import OperationalError, StatementError
from sqlmodel import Session, col, select

from cloud import tables
from cloud.messaging import intake
from cloud.messaging.intake import Arrival, Inbox
from cloud.registry import desired, devices, events
from cloud.services import Services
from runtime import messages, topics
from runtime.errors import InvalidError
from runtime.link import Received
from runtime.messages import Presence, Reported
from runtime.retry import Backoff
from runtime.topics import Channel, DeviceId

log = logging.getLogger(__name__)

FLUSH_S = 15.0
GROUP = 128
MAX_GENERATION = 1 << 53
_LOOK_S = 0.5
_POISON = (InvalidError, StatementError, OverflowError)
"""What is said of a word that asks the impossible, or holds what no column can."""
_REMEMBERED = 100_000


@dataclass(frozen=True)
class Word:
    """One thing that a device said."""

    device: DeviceId
    said: Reported | Presence
    received_at: float
    retained: bool
    """It was said some time ago: the broker kept it."""


class Presences:
    """Keeps the device rows true, in a thread of its own."""

    def __init__(
        self,
        services: Services,
        inbox: Inbox,
        *,
        ack: Callable[[Sequence[Received]], None],
        republish: Callable[[DeviceId], None],
    ) -> None:
        """`republish` has a device's desired state published once more."""
        self._services, self._inbox, self._ack = services, inbox, ack
        self._republish = republish
        self._known: dict[tuple[DeviceId, type], bytes] = {}
        """What each device last said that was news, and is written."""
        self._heartbeats: dict[DeviceId, Word] = {}
        """What is to be written with the next flush."""

    def run(self, stopping: threading.Event) -> None:
        """Take over what comes until `stopping`."""
        backoff = Backoff(first_s=0.2, most_s=10.0)
        flush_at = time.monotonic() + FLUSH_S
        while not stopping.is_set():
            group = intake.take(self._inbox, most=GROUP, wait_s=_LOOK_S)
            due = time.monotonic() >= flush_at
            while (group or due) and not stopping.is_set() and not self._try(group, due=due):
                stopping.wait(backoff.next())
            backoff.reset()
            if due:
                flush_at = time.monotonic() + FLUSH_S
        self._try([], due=True)

    def _try(self, group: Sequence[Arrival], *, due: bool) -> bool:
        try:
            self.handle(group)
            if due:
                self.flush()
        except OperationalError as error:
            log.warning("device states cannot be stored", extra={"why": str(error.orig)})
            return False
        return True

    def handle(self, group: Sequence[Arrival]) -> None:
        """Take over a group; the broker may forget it afterwards.

        Raises sqlalchemy.exc.OperationalError, with nothing done, if the database is busy or full.
        """
        words = [word for arrival in group if (word := interpret(arrival)) is not None]
        news = [word for word in words if self._is_news(word)]
        if news:
            self._write(news)
            for word in news:
                self._remember(word)
                self._heartbeats.pop(word.device, None)
        for word in words:
            if word not in news and not word.retained:
                self._keep(word)
        self._send_what_was_missed(words)
        self._ack([arrival.message for arrival in group])

    def flush(self) -> None:
        """Write the heartbeats; raises OperationalError as `handle`."""
        if self._heartbeats:
            self._write(list(self._heartbeats.values()))
            self._heartbeats.clear()

    def _is_news(self, word: Word) -> bool:
        return self._known.get((word.device, type(word.said))) != _essence(word.said)

    def _remember(self, word: Word) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[word.device, type(word.said)] = _essence(word.said)

    def _keep(self, word: Word) -> None:
        before = self._heartbeats.get(word.device)
        if isinstance(word.said, Reported) or before is None:
            self._heartbeats[word.device] = word

    def _write(self, words: Iterable[Word]) -> None:
        said = list(words)
        try:
            self._write_with(said, self._apply)
        except OperationalError:
            raise
        except _POISON:  # only the culprit may suffer
            self._write_with(said, self._apply_apart)

    def _write_with(self, words: Sequence[Word], apply: Callable[[Session, Word], None]) -> None:
        with self._services.transaction() as session:
            known = devices.load_allowed(session, {word.device for word in words})
            for word in words:
                if word.device in known:
                    apply(session, word)
                else:
                    log.warning("word of an unknown or revoked device dropped", extra=_who(word))

    def _apply(self, session: Session, word: Word) -> None:
        if isinstance(word.said, Presence):
            _apply_presence(session, word.device, word.said, word)
            return
        devices.apply_reported(
            session,
            word.device,
            word.said,
            now=word.received_at,
            lease_s=self._services.settings.lease_s,
        )

    def _apply_apart(self, session: Session, word: Word) -> None:
        """Apply a word in a savepoint of its own, so that it fails alone."""
        try:
            with session.begin_nested():
                self._apply(session, word)
        except OperationalError:
            raise
        except _POISON as error:
            # What its new facts would have it run is impossible, or no column holds what it says.
            log.warning("report refused", extra={**_who(word), "why": str(error)})
            events.add(
                session,
                at=word.received_at,
                actor=events.REGISTRY,
                kind="device.report_refused",
                subject=word.device,
                data={"reason": str(error)},
            )

    def _send_what_was_missed(self, words: Iterable[Word]) -> None:
        seen = {
            word.device: word.said.generation for word in words if isinstance(word.said, Reported)
        }
        if not seen:
            return
        query = select(tables.Desired.device, tables.Desired.generation)
        with self._services.reading() as session:
            wanted = session.exec(query.where(col(tables.Desired.device).in_(seen))).all()
        for device, generation in wanted:
            if seen[DeviceId(device)] < generation:
                self._republish(DeviceId(device))
        ahead = [
            DeviceId(device) for device, generation in wanted if seen[DeviceId(device)] > generation
        ]
        if ahead:
            self._overtake(ahead, seen)

    def _overtake(self, ahead: Iterable[DeviceId], seen: Mapping[DeviceId, int]) -> None:
        """Raise generations above what devices have seen from a registry that knew more than us.

        That was this registry, before it was restored from a backup. Devices ignore what is older
        than what they have.
        """
        with self._services.transaction() as session:
            for device in ahead:
                log.warning("device is ahead of the registry", extra={"device": device})
                now = self._services.clock.now()
                desired.renew(session, device, now=now, above=seen[device])


def interpret(arrival: Arrival) -> Word | None:
    """Return what a device said; None, with a log line, if that cannot be read."""
    message = arrival.message
    channel = topics.parse(message.topic).channel
    said: Reported | Presence
    try:
        if channel is Channel.PRESENCE:
            said = messages.decode(Presence, message.payload)
        else:
            said = _report(messages.decode(Reported, message.payload), arrival.device)
    except InvalidError as error:
        log.warning("message dropped", extra={"device": arrival.device, "why": str(error)})
        return None
    return Word(arrival.device, said, arrival.received_at, message.retained)


def _report(report: Reported, device: DeviceId) -> Reported:
    """Return a report that may be believed; raise InvalidError otherwise."""
    if report.device != device:
        raise InvalidError("device", report.device, f"a report of {device} names that device")
    if not 0 <= report.generation <= MAX_GENERATION:
        raise InvalidError("generation", report.generation, f"0 to {MAX_GENERATION}")
    return report


def _apply_presence(session: Session, device: DeviceId, said: Presence, word: Word) -> None:
    before = devices.get(session, device).last_seen
    devices.apply_presence(session, device, said, now=word.received_at)
    if word.retained:  # news of old: no sign of life
        devices.get(session, device).last_seen = before


def _essence(said: Reported | Presence) -> bytes:
    """Return what makes a word news, so without its time and its vitals."""
    if isinstance(said, Reported):
        return messages.encode(msgspec.structs.replace(said, at=0.0, vitals={}))
    return messages.encode(msgspec.structs.replace(said, at=0.0))


def _who(word: Word) -> dict[str, str]:
    return {"device": word.device}
