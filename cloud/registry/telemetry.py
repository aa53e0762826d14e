"""What devices recorded, read back. Written by cloud.messaging.ingest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlmodel import Session, col, func, select

from cloud import tables

PERCENTILES = (50, 95)


@dataclass(frozen=True)
class Filter:
    """Which records are meant; None: any."""

    model: str | None = None
    version: int | None = None
    device: str | None = None
    since: float | None = None
    """Recorded at this time (device clock, seconds since 1970) or later."""

    def conditions(self) -> list[Any]:
        """Return this as conditions of a query."""
        row = tables.Record
        wanted = [
            (col(row.model), self.model),
            (col(row.version), self.version),
            (col(row.device), self.device),
        ]
        conditions: list[Any] = [column == value for column, value in wanted if value is not None]
        if self.since is not None:
            conditions.append(col(row.at) >= self.since)
        return conditions


@dataclass(frozen=True)
class VersionStats:
    """What one version of a model did, over all devices."""

    model: str
    version: int
    records: int
    devices: int
    errors: int
    latency_mean_ms: float
    latency_p50_ms: float
    latency_p95_ms: float
    first_at: float
    last_at: float


def records(session: Session, wanted: Filter, *, after: int, limit: int) -> Sequence[tables.Record]:
    """Return up to `limit` records that arrived after record `after`, in order of arrival."""
    query = select(tables.Record).where(col(tables.Record.id) > after, *wanted.conditions())
    return session.exec(query.order_by(col(tables.Record.id)).limit(limit)).all()


def newest(session: Session, wanted: Filter, *, limit: int) -> list[tables.Record]:
    """Return the `limit` records that arrived last, in order of arrival."""
    query = select(tables.Record).where(*wanted.conditions())
    rows = session.exec(query.order_by(col(tables.Record.id).desc()).limit(limit)).all()
    return list(reversed(rows))


def stats(session: Session, model: str, *, since: float | None = None) -> list[VersionStats]:
    """Return one line for each version that recorded anything, lowest number first."""
    row = tables.Record
    query = (
        sqlalchemy.select(  # SQLModel's own select() is typed for up to four columns
            col(row.version),
            func.count(),
            func.count(func.distinct(col(row.device))),
            func.count(col(row.error)),
            func.avg(col(row.latency_ms)),
            func.min(col(row.at)),
            func.max(col(row.at)),
        )
        .where(*Filter(model=model, since=since).conditions())
        .group_by(col(row.version))
        .order_by(col(row.version))
    )
    found = []
    for version, count, devices, errors, mean, first, last in session.connection().execute(query):
        wanted = Filter(model=model, version=version, since=since)
        p50, p95 = (_percentile(session, wanted, count, percent) for percent in PERCENTILES)
        found.append(
            VersionStats(model, version, count, devices, errors, mean, p50, p95, first, last)
        )
    return found


def _percentile(session: Session, wanted: Filter, count: int, percent: int) -> float:
    """Return the nearest-rank percentile of latency over `count` (at least one) records."""
    rank = max(0, -(-count * percent // 100) - 1)
    query = select(tables.Record.latency_ms).where(*wanted.conditions())
    return session.exec(query.order_by(col(tables.Record.latency_ms)).offset(rank).limit(1)).one()
