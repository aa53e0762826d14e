"""What devices say of themselves, into their rows: reports and presence.

A report that tells nothing new (a heartbeat) costs no write of its own: the newest is kept in
memory and written with others every FLUSH_S seconds. A report that tells something new is written
at once, with the history of what converged or failed. Whoever reports an older generation than the
one desired has missed a message and gets it again.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec
from sqlalchemy.exc import OperationalError, StatementError
from sqlmodel import Session

from cloud.messaging import intake
from cloud.messaging.intake import Arrival, Inbox
from cloud.registry import desired, events, hearing
from cloud.registry.hearing import Word
from cloud.services import Services
from runtime import messages, topics
from runtime.errors import InvalidError
from runtime.link import Received
from runtime.messages import Presence, Reported
from runtime.retry import Backoff
from runtime.topics import Channel, DeviceId

log = logging.getLogger(__name__)

FLUSH_S = 15.0
GROUP = 256
GATHER_S = 0.02
"""What comes so soon after a group waits for more: a transaction costs as much as 20 reports."""
FLUSHED_TOGETHER = 1024
"""Heartbeats in one transaction: those of a large fleet must not hold up all else."""
MAX_GENERATION = 1 << 53
_LOOK_S = 0.5
_POISON = (InvalidError, StatementError, OverflowError)
"""What is said of a word that asks the impossible, or holds what no column can."""
_REMEMBERED = 100_000


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
        flush_at, gather_to = time.monotonic() + FLUSH_S, 0.0
        while not stopping.is_set():
            group = intake.take(self._inbox, most=GROUP, wait_s=_LOOK_S, not_before=gather_to)
            due = time.monotonic() >= flush_at
            while (group or due) and not stopping.is_set() and not self._try(group, due=due):
                stopping.wait(backoff.next())
            backoff.reset()
            gather_to = time.monotonic() + GATHER_S
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
        news, heartbeats = self._sort(words)
        if news:
            self._write([word for word, _ in news])
            for word, essence in news:
                self._remember(word, essence)
                self._heartbeats.pop(word.device, None)
        for word in heartbeats:
            _keep(word, self._heartbeats)
        self._send_what_was_missed(words)
        self._ack([arrival.message for arrival in group])

    def flush(self) -> None:
        """Write the heartbeats; raises OperationalError as `handle`."""
        waiting = list(self._heartbeats.values())
        for start in range(0, len(waiting), FLUSHED_TOGETHER):
            some = waiting[start : start + FLUSHED_TOGETHER]
            self._write(some)
            for word in some:
                del self._heartbeats[word.device]

    def _sort(self, words: Iterable[Word]) -> tuple[list[tuple[Word, bytes]], Collection[Word]]:
        """Return what is news, with its essence, and heartbeats that no news came after."""
        news, heartbeats = list[tuple[Word, bytes]](), dict[DeviceId, Word]()
        said: dict[tuple[DeviceId, type], bytes] = {}
        for word in words:
            of, essence = (word.device, type(word.said)), _essence(word.said)
            if said.get(of, self._known.get(of)) != essence:
                said[of] = essence
                news.append((word, essence))
                heartbeats.pop(word.device, None)
            elif not word.retained:
                _keep(word, heartbeats)
        return news, heartbeats.values()

    def _remember(self, word: Word, essence: bytes) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[word.device, type(word.said)] = essence

    def _write(self, words: Sequence[Word]) -> None:
        try:
            with self._services.transaction() as session:
                self._apply(session, words)
        except OperationalError:
            raise
        except _POISON:  # only the culprit may suffer
            with self._services.transaction() as session:
                for word in words:
                    self._apply_apart(session, word)

    def _apply(self, session: Session, words: Sequence[Word]) -> None:
        lease_s = self._services.settings.lease_s
        known = hearing.take_over(session, words, lease_s=lease_s)
        for word in words:
            if word.device not in known:
                log.warning("word of an unknown or revoked device dropped", extra=_who(word))

    def _apply_apart(self, session: Session, word: Word) -> None:
        """Apply a word in a savepoint of its own, so that it fails alone."""
        try:
            with session.begin_nested():
                self._apply(session, [word])
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
        with self._services.reading() as session:
            wanted = desired.generations(session, seen)
        for device, generation in wanted.items():
            if seen[device] < generation:
                self._republish(device)
        ahead = [device for device, generation in wanted.items() if seen[device] > generation]
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


def _keep(word: Word, heartbeats: dict[DeviceId, Word]) -> None:
    """Keep the newest report, or a presence if there is none."""
    if isinstance(word.said, Reported) or word.device not in heartbeats:
        heartbeats[word.device] = word


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


def _essence(said: Reported | Presence) -> bytes:
    """Return what makes a word news, so without its time and its vitals."""
    if isinstance(said, Reported):
        return messages.encode(msgspec.structs.replace(said, at=0.0, vitals={}))
    return messages.encode(msgspec.structs.replace(said, at=0.0))


def _who(word: Word) -> dict[str, str]:
    return {"device": word.device}
