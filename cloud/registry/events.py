"""The history: who did what when, written in the transaction that does it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, select

from cloud import tables

REGISTRY = "registry"


def key_actor(name: str) -> str:
    """Return the actor that an API key stands for."""
    return f"key:{name}"


def device_actor(device: str) -> str:
    """Return the actor that a device is."""
    return f"device:{device}"


def add(
    session: Session,
    *,
    at: float,
    actor: str,
    kind: str,
    subject: str,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Add one line to the history."""
    session.add(tables.Event(at=at, actor=actor, kind=kind, subject=subject, data=dict(data or {})))


def page(
    session: Session, *, subject: str | None, after: int, limit: int
) -> Sequence[tables.Event]:
    """Return up to `limit` events with ids above `after`, oldest first."""
    query = select(tables.Event).where(col(tables.Event.id) > after)
    if subject is not None:
        query = query.where(tables.Event.subject == subject)
    return session.exec(query.order_by(col(tables.Event.id)).limit(limit)).all()
