"""What a restored registry must say differently than the one that was backed up.

Between the backup and its restoring, devices went on. They may have seen desired states, hold
certificates and have had batches acknowledged of which these rows know nothing:

    generations   go on above anything that any device or gateway can have seen, so that none is
                  used twice
    tokens        that were unused are void: some may have been used since
    presence      is unknown until a device speaks
    events        go on above all numbers that a listener can have seen
    blobs         are touched, so that none is garbage before somebody could look

A generation is (seconds since 1970) * 2**20, or one above the highest; a device's changes would
have to come more often than a million a second to catch up with the clock.
"""

from dataclasses import dataclass

import msgspec
import sqlmodel
from sqlalchemy import func, select
from sqlmodel import Session, col, update

from cloud import tables
from cloud.registry import events
from runtime import messages
from runtime.digests import Digest
from runtime.messages import Desired

NUMBERS_A_SECOND = 1 << 20
KIND = "registry.restored"


@dataclass(frozen=True)
class Mended:
    """What was changed, for a person."""

    devices: int
    tokens: int
    generation: int
    """The lowest of any device."""


def mend(session: Session, *, backed_up_at: float, now: float) -> Mended:
    """Change the rows of a backup so that devices are not confused; in one transaction."""
    base = int(now) * NUMBERS_A_SECOND
    desired = _raise_generations(session, base, now)
    for service in session.exec(sqlmodel.select(tables.Service)).all():
        service.generation = max(base, service.generation + 1)
        session.add(service)
    void = session.exec(
        update(tables.EnrolmentToken)
        .where(col(tables.EnrolmentToken.used_at).is_(None))
        .where(col(tables.EnrolmentToken.expires_at) > now)
        .values(expires_at=now)
    ).rowcount
    session.exec(update(tables.Device).values(online=None, lease_s=None))
    session.exec(update(tables.Blob).values(touched_at=now, deleting=False))
    _add_event(session, base, backed_up_at=backed_up_at, now=now)
    lowest = session.connection().execute(select(func.min(tables.Desired.generation))).scalar()
    return Mended(desired, void, lowest or base)


def blobs(session: Session) -> list[Digest]:
    """Return every blob that versions need."""
    query = select(col(tables.BundleBlob.blob)).distinct()
    return [Digest(digest) for digest in session.connection().execute(query).scalars()]


def _raise_generations(session: Session, base: int, now: float) -> int:
    rows = session.exec(sqlmodel.select(tables.Desired)).all()
    for row in rows:
        generation = max(base, row.generation + 1)
        message = messages.decode(Desired, row.body.encode())
        message = msgspec.structs.replace(message, generation=generation, issued_at=now)
        row.generation, row.body = generation, messages.encode(message).decode()
        row.published_generation = 0
        session.add(row)
    return len(rows)


def _add_event(session: Session, base: int, *, backed_up_at: float, now: float) -> None:
    highest = session.connection().execute(select(func.max(tables.Event.id))).scalar() or 0
    session.add(
        tables.Event(
            id=max(base, highest + 1),
            at=now,
            actor=events.REGISTRY,
            kind=KIND,
            subject="registry",
            data={"backed_up_at": backed_up_at},
        )
    )
    session.flush()
