"""Telemetry into rows: at least once on the wire, exactly once here.

    queue ─► decode ─► one transaction ─► Ack to each device ─► ack to the broker
                            │
                            └─ (device, epoch, sequence) is unique: what is there already, stays

A device deletes a batch only after the Ack, and the Ack is sent only after the commit. So a kill
anywhere costs a repetition, which the unique number takes care of. What cannot be read is set
aside (`rejected_batch`) and acked as rejected, or it would come back for ever.
"""

import functools
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Dialect, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError, StatementError
from sqlmodel import Session, SQLModel, col

from cloud import database, tables
from cloud.messaging import intake
from cloud.messaging.intake import Arrival, Inbox
from cloud.messaging.record_rows import COLUMNS, batch_row, readied, record_rows
from cloud.services import Services
from runtime import batches
from runtime.batches import Header
from runtime.errors import InvalidError, LinkError
from runtime.link import Received
from runtime.messages import Ack
from runtime.retry import Backoff
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

GROUP = 64
"""Batches in one transaction, at most."""
KEPT_BYTES = 64 * 1024
"""Of a rejected batch."""
KEPT_REJECTED = 100
"""Rejected batches of one device; further ones are only logged."""
_LOOK_S = 0.5
_POISON = (StatementError, OverflowError, TypeError, ValueError)
"""What the database says to a value that it cannot hold."""

_TABLES = SQLModel.metadata.tables


@dataclass(frozen=True)
class Rejection:
    """Why a batch is set aside; its number, where that could be read."""

    reason: str
    epoch: str | None = None
    sequence: int | None = None


@dataclass(frozen=True)
class Batch:
    """What a device sent: its number, and the records as one list per column."""

    header: Header
    fields: dict[str, list[Any]]


Read = tuple[Arrival, Batch | Rejection]


@dataclass
class _Verdict:
    """What to tell one device about one epoch."""

    stored: list[int] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)


class Ingester:
    """Stores batches, group by group, in a thread of its own."""

    def __init__(
        self,
        services: Services,
        inbox: Inbox,
        *,
        ack: Callable[[Received], None],
        tell: Callable[[DeviceId, Ack], None],
    ) -> None:
        """`ack` lets the broker forget a message; `tell` sends an Ack and may raise LinkError."""
        self._services, self._inbox, self._ack, self._tell = services, inbox, ack, tell
        self.trouble = ""
        """Why nothing can be stored now; empty when all is well."""

    def run(self, stopping: threading.Event) -> None:
        """Store what comes until `stopping`; what is not committed by then comes again."""
        backoff = Backoff(first_s=0.2, most_s=10.0)
        while not stopping.is_set():
            group = intake.take(self._inbox, most=GROUP, wait_s=_LOOK_S)
            while group and not stopping.is_set() and not self._try(group):
                stopping.wait(backoff.next())
            backoff.reset()

    def _try(self, group: Sequence[Arrival]) -> bool:
        try:
            self.handle(group)
        except OperationalError as error:
            self._note_trouble(str(error.orig))
            return False
        self._note_trouble("")
        return True

    def handle(self, group: Sequence[Arrival]) -> None:
        """Commit a group, then tell the devices, then the broker.

        Raises sqlalchemy.exc.OperationalError, with nothing stored or told, if the database is
        busy or full.
        """
        read = [(arrival, interpret(arrival)) for arrival in group]
        self._answer(self._store(read))
        for arrival in group:
            self._ack(arrival.message)

    def _note_trouble(self, text: str) -> None:
        if text and not self.trouble:
            log.error("telemetry cannot be stored", extra={"why": text})
        elif self.trouble and not text:
            log.info("telemetry is stored again")
        self.trouble = text

    def _store(self, read: Sequence[Read]) -> list[Read]:
        """Commit these; return them as they were judged in the end, without unknown devices."""
        try:
            with self._services.appending() as session:
                return _insert(session, read)
        except OperationalError:
            raise
        except _POISON as error:
            if len(read) > 1:  # only the culprit may suffer
                return [judged for one in read for judged in self._store([one])]
            return self._store([_without_poison(*read[0], error)])

    def _answer(self, judged: Iterable[Read]) -> None:
        verdicts: dict[tuple[DeviceId, str], _Verdict] = defaultdict(_Verdict)
        for arrival, found in judged:
            if isinstance(found, Batch):
                header = found.header
                verdicts[arrival.device, header.epoch].stored.append(header.sequence)
            elif found.epoch is not None and found.sequence is not None:
                verdicts[arrival.device, found.epoch].rejected.append(found.sequence)
        for (device, epoch), verdict in verdicts.items():
            self._try_to_tell(device, Ack(epoch, tuple(verdict.stored), tuple(verdict.rejected)))

    def _try_to_tell(self, device: DeviceId, answer: Ack) -> None:
        try:
            self._tell(device, answer)
        except LinkError as error:  # the device will send again, and be told then
            log.info("ack not sent", extra={"device": device, "why": str(error)})


def interpret(arrival: Arrival) -> Batch | Rejection:
    """Return what an arrival carries."""
    try:
        header, body = batches.unwrap(arrival.message.payload)
    except InvalidError as error:
        return Rejection(str(error))
    if header.device != arrival.device:
        why = f"it came from {arrival.device} and says that it is of {header.device}"
        return Rejection(why, header.epoch, header.sequence)
    try:
        return Batch(header, readied(batches.decode_columns(body)))
    except InvalidError as error:
        return Rejection(str(error), header.epoch, header.sequence)


def _insert(session: Session, read: Sequence[Read]) -> list[Read]:
    known = _known(session, {arrival.device for arrival, _ in read})
    judged = [(arrival, found) for arrival, found in read if arrival.device in known]
    for device in {arrival.device for arrival, _ in read} - known:
        log.warning("telemetry of an unknown or revoked device dropped", extra={"device": device})
    for arrival, found in judged:
        if isinstance(found, Rejection):
            _set_aside(session, arrival, found)
        elif (batch_id := _insert_batch(session, arrival, found)) is not None:
            rows = record_rows(
                found.header, found.fields, batch_id=batch_id, received_at=arrival.received_at
            )
            _insert_records(session.connection(), rows)
    return judged


def _insert_records(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows past SQLAlchemy's handling of each value, which takes most of the time."""
    if connection.dialect.name == database.POSTGRESQL:
        database.copy_rows(connection, "record", COLUMNS, rows)
    else:
        connection.exec_driver_sql(_insert_statement(connection.dialect), rows)


@functools.cache
def _insert_statement(dialect: Dialect) -> str:
    """Return the statement in the driver's own style."""
    compiled = insert(_TABLES["record"]).compile(dialect=dialect, column_keys=list(COLUMNS))
    assert compiled.positiontup == list(COLUMNS), "the table has its columns in this order"
    return str(compiled)


def _known(session: Session, devices: set[DeviceId]) -> set[str]:
    query = select(col(tables.Device.id)).where(
        col(tables.Device.id).in_(devices), col(tables.Device.revoked_at).is_(None)
    )
    return set(session.connection().execute(query).scalars())


def _insert_batch(session: Session, arrival: Arrival, batch: Batch) -> int | None:
    """Return the new row's id; None if this number is stored already."""
    connection = session.connection()
    row = batch_row(
        batch.header,
        records=len(batch.fields["at"]),
        received_at=arrival.received_at,
        size_bytes=len(arrival.message.payload),
    )
    table = _TABLES["batch"]
    statement: sqlite.Insert | postgresql.Insert
    if connection.dialect.name == database.POSTGRESQL:
        statement = postgresql.insert(table).on_conflict_do_nothing()
    else:
        statement = sqlite.insert(table).on_conflict_do_nothing()
    done = connection.execute(statement.values(row).returning(table.c.id))
    found: int | None = done.scalar_one_or_none()
    return found


def _set_aside(session: Session, arrival: Arrival, rejection: Rejection) -> None:
    payload = arrival.message.payload
    log.warning(
        "batch rejected",
        extra={
            "device": arrival.device,
            "sequence": rejection.sequence,
            "size_bytes": len(payload),
            "why": rejection.reason,
        },
    )
    counting = select(func.count()).where(col(tables.RejectedBatch.device) == arrival.device)
    if session.connection().execute(counting).scalar_one() >= KEPT_REJECTED:
        return
    session.add(
        tables.RejectedBatch(
            device=arrival.device,
            epoch=rejection.epoch,
            sequence=rejection.sequence,
            received_at=arrival.received_at,
            reason=rejection.reason,
            payload=payload[:KEPT_BYTES],
        )
    )


def _without_poison(arrival: Arrival, found: Batch | Rejection, error: Exception) -> Read:
    """Return what to store of a batch that the database refused with this error.

    Its number may be the poison, so a rejection that was refused too goes without.
    """
    if isinstance(found, Batch):
        return arrival, Rejection(_short(error), found.header.epoch, found.header.sequence)
    if found.epoch is None:
        raise error
    return arrival, Rejection(_short(error))


def _short(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return f"the database does not take it: {cause}"[:500]
