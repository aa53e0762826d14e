"""Services that go: first where they run, then here."""

from sqlmodel import Session, col, select

from cloud import tables
from cloud.registry import events
from cloud.registry.serving import rows, runs, services

REMOVED = "service.removed"


def delete(session: Session, row: tables.Service, *, forget: bool, actor: str, now: float) -> None:
    """Have all that was made for a service be removed; its name is free when it is.

    `forget`: do not wait for the target, which may be gone; what is left there stays.
    """
    if row.deleted_at is None:
        _begin_removal(session, row, forget=forget, actor=actor, now=now)
    if forget:
        removed(session, row, now=now)


def _begin_removal(
    session: Session, row: tables.Service, *, forget: bool, actor: str, now: float
) -> None:
    row.deleted_at = now
    row.generation += 1
    for key in session.exec(select(tables.ServiceKey).where(
        tables.ServiceKey.service == row.name, col(tables.ServiceKey.revoked_at).is_(None)
    )).all():  # fmt: skip
        key.revoked_at = now
        session.add(key)
    for each in rows.revisions(session, row):
        each.secrets = None
        session.add(each)
    services.note_change(session, row, now=now)
    services.tell(session, row, "service.deleted", {"forget": forget}, actor=actor, now=now)


def removed(session: Session, row: tables.Service, *, now: float) -> None:
    """Note that nothing of a service is left."""
    if row.removed_at is not None:
        return
    runs.close_all(session, row.name, reason="deleted", now=now)
    row.removed_at = now
    rows.touch(session, row)
    services.tell(session, row, REMOVED, {}, actor=events.REGISTRY, now=now)
