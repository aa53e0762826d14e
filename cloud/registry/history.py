"""What ran where, from when to when, by whose act: from what devices report, never from wishes.

A **run** begins when a device first says that a version answers inference, and ends when it says
that another does, or none. Both moments are the device's own where they can be right: not before
the report before, not after the one that told, and by a clock that was set. A device that is not
heard from ends no run; its silences are events (`device.online` with `silent_since`), so that a
question about a moment in between is answered with "not heard from", never with a guess.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, or_, select

from cloud import tables
from cloud.registry.runs import ONLINE

ENROLLED_KIND = "device.enrolled"


class Heard(enum.Enum):
    """Whether the registry heard from a device round a moment."""

    HEARD = "heard"
    SILENT = "silent"
    """It had been heard before; what it ran at that moment is what it last said."""
    NEVER = "never"
    """Not by then: nothing is known."""


@dataclass(frozen=True)
class Wanted:
    """Which runs are meant; None: any."""

    device: str | None = None
    module: str | None = None
    model: str | None = None
    version: int | None = None
    deployment: str | None = None

    def conditions(self) -> list[Any]:
        """Return this as conditions of a query."""
        row = tables.Run
        pairs: list[tuple[Any, Any]] = [
            (row.device, self.device),
            (row.module, self.module),
            (row.model, self.model),
            (row.version, self.version),
            (row.deployment, self.deployment),
        ]
        return [column == value for column, value in pairs if value is not None]


@dataclass(frozen=True)
class Moment:
    """What is known of one device at one time."""

    device: str
    heard: Heard
    last_heard: float | None
    """Before or at that time; None: never, or up to that very time."""
    runs: tuple[tables.Run, ...]


def runs(
    session: Session, wanted: Wanted, *, before: int | None, limit: int
) -> Sequence[tables.Run]:
    """Return up to `limit` runs, those that became known last first, older than run `before`."""
    query = select(tables.Run).where(*wanted.conditions())
    if before is not None:
        query = query.where(col(tables.Run.id) < before)
    return session.exec(query.order_by(col(tables.Run.id).desc()).limit(limit)).all()


def last_heard(session: Session, devices: set[str]) -> dict[str, float | None]:
    """Return when each device was last heard from."""
    query = select(tables.Device.id, tables.Device.last_seen).where(
        col(tables.Device.id).in_(devices)
    )
    return {device: seen for device, seen in session.exec(query)}  # noqa: C416 - rows, not pairs


def moments(
    session: Session,
    wanted: Wanted,
    at: float,
    *,
    after: str,
    limit: int,
    lease_s: float,
    now: float,
) -> list[Moment]:
    """Return what is known of up to `limit` devices at a time, by id from behind `after` on.

    With a model, version, module or deployment: devices alone that ran such a thing. Otherwise
    every device that had enrolled by then.
    """
    devices = _devices(session, wanted, at, after=after, limit=limit)
    found = _runs_at(session, wanted, at, [row.id for row in devices])
    return [
        _moment_of(session, row, at, tuple(found.get(row.id, ())), lease_s=lease_s, now=now)
        for row in devices
    ]


def _devices(
    session: Session, wanted: Wanted, at: float, *, after: str, limit: int
) -> Sequence[tables.Device]:
    query = select(tables.Device).where(col(tables.Device.id) > after)
    if wanted == Wanted(device=wanted.device):
        query = query.where(col(tables.Device.created_at) <= at)
        if wanted.device is not None:
            query = query.where(tables.Device.id == wanted.device)
    else:
        ran = select(tables.Run.device).where(*wanted.conditions(), *_covering(at))
        query = query.where(col(tables.Device.id).in_(ran))
    return session.exec(query.order_by(col(tables.Device.id)).limit(limit)).all()


def _covering(at: float) -> list[Any]:
    row = tables.Run
    return [col(row.from_at) <= at, or_(col(row.until_at).is_(None), col(row.until_at) > at)]


def _runs_at(
    session: Session, wanted: Wanted, at: float, devices: list[str]
) -> dict[str, list[tables.Run]]:
    query = select(tables.Run).where(
        col(tables.Run.device).in_(devices), *wanted.conditions(), *_covering(at)
    )
    found: dict[str, list[tables.Run]] = {}
    for run in session.exec(query.order_by(col(tables.Run.module))):
        found.setdefault(run.device, []).append(run)
    return found


def _moment_of(
    session: Session,
    row: tables.Device,
    at: float,
    ran: tuple[tables.Run, ...],
    *,
    lease_s: float,
    now: float,
) -> Moment:
    """Judge by the first time after `at` that the device came back, or by its last word."""
    query = select(tables.Event).where(
        tables.Event.subject == row.id,
        col(tables.Event.kind).in_((ONLINE, ENROLLED_KIND)),
        col(tables.Event.at) > at,
    )
    back = session.exec(query.order_by(col(tables.Event.id)).limit(1)).first()
    if back is not None:
        last: float | None = back.data.get("silent_since")
        silent = last is None or last < at
    else:
        last = row.last_seen
        here = row.online is not False and row.revoked_at is None
        silent = last is None or (
            last < at and not (here and now <= last + (row.lease_s or lease_s))
        )
    if not silent:
        return Moment(row.id, Heard.HEARD, None, ran)
    return Moment(row.id, Heard.NEVER if last is None else Heard.SILENT, last, ran)
