"""What had traffic of a service, from when to when: from what gateways say, never from wishes.

A run begins when all gateways have the configuration in force that gives a revision its share, and
a replica of it answers; it ends when they have one that gives it another, or none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, or_, select

from cloud import tables
from cloud.registry.serving import rows

OTHER_SHARE, NO_SHARE = "another share", "no share any more"


@dataclass(frozen=True)
class Wanted:
    """Which runs are meant; None: any."""

    service: str | None = None
    model: str | None = None
    version: int | None = None
    at: float | None = None
    """Those that were under way then."""

    def conditions(self) -> list[Any]:
        """Return this as conditions of a query."""
        row = tables.ServiceRun
        pairs: list[tuple[Any, Any]] = [
            (row.service, self.service),
            (row.model, self.model),
            (row.version, self.version),
        ]
        found = [column == value for column, value in pairs if value is not None]
        if self.at is not None:
            open_then = or_(col(row.until_at).is_(None), col(row.until_at) > self.at)
            found += [col(row.from_at) <= self.at, open_then]
        return found


def page(
    session: Session, wanted: Wanted, *, before: int | None, limit: int
) -> Sequence[tables.ServiceRun]:
    """Return up to `limit` runs, those that became known last first, older than run `before`."""
    query = select(tables.ServiceRun).where(*wanted.conditions())
    if before is not None:
        query = query.where(col(tables.ServiceRun.id) < before)
    return session.exec(query.order_by(col(tables.ServiceRun.id).desc()).limit(limit)).all()


def under_way(session: Session, service: str) -> dict[int, tables.ServiceRun]:
    """Return the runs that have no end yet, by revision."""
    row = tables.ServiceRun
    query = select(row).where(row.service == service, col(row.until_at).is_(None))
    return {each.revision: each for each in session.exec(query)}


def differs(session: Session, service: str, shares: Mapping[int, int]) -> bool:
    """Say whether `note` would write something."""
    return {n: run.weight for n, run in under_way(session, service).items()} != dict(shares)


def note(session: Session, row: tables.Service, shares: Mapping[int, int], *, now: float) -> None:
    """Take over which revisions have which share now."""
    known = under_way(session, row.name)
    for number, run in known.items():
        if shares.get(number) != run.weight:
            _end(session, run, OTHER_SHARE if shares.get(number) else NO_SHARE, now)
    session.flush()
    for number, weight in sorted(shares.items()):
        before = known.get(number)
        if before is None or before.weight != weight:
            made = rows.revision(session, row, number)
            session.add(
                tables.ServiceRun(
                    service=row.name,
                    place=rows.place_text(row),
                    revision=number,
                    model=made.model,
                    version=made.version,
                    bundle=made.bundle,
                    weight=weight,
                    actor=made.created_by,
                    from_at=now,
                )
            )
    session.flush()


def close_all(session: Session, service: str, *, reason: str, now: float) -> None:
    """End all runs of a service."""
    for run in under_way(session, service).values():
        _end(session, run, reason, now)
    session.flush()


def _end(session: Session, run: tables.ServiceRun, reason: str, now: float) -> None:
    run.until_at, run.ended_reason = max(now, run.from_at), reason
    session.add(run)
