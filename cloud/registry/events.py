"""The history: who did what when, written in the transaction that does it.

Every change of the registry leaves an event, and each kind is in docs/specs/events.md; tests hold
both. Ids rise in the order of commits (`cloud.database`: transactions that write run one after the
other), so that a reader who has seen id 7 has missed nothing below it. So no event is written in
`Services.appending`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, SQLModel, col, func, insert, or_, select

from cloud import tables
from cloud.services import Change, mark
from runtime.errors import InvalidError

REGISTRY = "registry"
MAX_KINDS = 32
MAX_REASON_CHARS = 1000


def key_actor(name: str) -> str:
    """Return the actor that an API key stands for."""
    return f"key:{name}"


def device_actor(device: str) -> str:
    """Return the actor that a device is."""
    return f"device:{device}"


@dataclass(frozen=True)
class Filter:
    """Which events are meant; empty: all."""

    kinds: tuple[str, ...] = field(default=())
    """"deployment.created", or "deployment.*" for all that begin so."""
    subject: str | None = None
    """Exactly this subject."""
    subject_prefix: str | None = None
    """Every subject that begins so."""

    def conditions(self) -> list[Any]:
        """Return this as conditions of a query."""
        row = tables.Event
        found: list[Any] = []
        exact = [kind for kind in self.kinds if not kind.endswith("*")]
        begins = [kind[:-1] for kind in self.kinds if kind.endswith("*")]
        if self.kinds and "" not in begins:
            starts = [col(row.kind).startswith(each, autoescape=True) for each in begins]
            found.append(or_(col(row.kind).in_(exact), *starts))
        if self.subject is not None:
            found.append(row.subject == self.subject)
        if self.subject_prefix:
            found.append(col(row.subject).startswith(self.subject_prefix, autoescape=True))
        return found


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return kinds that a filter can hold; raise InvalidError otherwise."""
    if len(kinds) > MAX_KINDS:
        raise InvalidError("kinds", f"{len(kinds)} kinds", f"give at most {MAX_KINDS}")
    for kind in kinds:
        plain = kind.removesuffix("*")
        if not kind or not all(char.isascii() and (char.islower() or char in "._")
                               for char in plain):  # fmt: skip
            raise InvalidError("kinds", kind, "write deployment.created, deployment.* or *")
    return tuple(dict.fromkeys(kinds))


def add(
    session: Session,
    *,
    at: float,
    actor: str,
    kind: str,
    subject: str,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Add one line to the history; who waits for events is told after the commit."""
    session.add(
        tables.Event(**line(at=at, actor=actor, kind=kind, subject=subject, data=data or {}))
    )
    mark(session, Change.EVENTS)


def line(
    *, at: float, actor: str, kind: str, subject: str, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Return one line of the history, for `add_all`."""
    return {"at": at, "actor": actor, "kind": kind, "subject": subject, "data": dict(data)}


def add_all(session: Session, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add many lines to the history, as `add`; what was added before comes first."""
    if lines:
        session.flush()
        session.connection().execute(insert(SQLModel.metadata.tables["event"]), list(lines))
        mark(session, Change.EVENTS)


def page(
    session: Session, wanted: Filter | None = None, *, after: int, limit: int
) -> Sequence[tables.Event]:
    """Return up to `limit` events with ids above `after`, oldest first."""
    conditions = (wanted or Filter()).conditions()
    query = select(tables.Event).where(col(tables.Event.id) > after, *conditions)
    return session.exec(query.order_by(col(tables.Event.id)).limit(limit)).all()


def last(session: Session, wanted: Filter, *, limit: int) -> list[tables.Event]:
    """Return the `limit` newest events, oldest first."""
    query = select(tables.Event).where(*wanted.conditions())
    rows = session.exec(query.order_by(col(tables.Event.id).desc()).limit(limit)).all()
    return list(reversed(rows))


def newest(session: Session) -> int:
    """Return the id of the newest event; 0 if there is none."""
    return session.exec(select(func.max(tables.Event.id))).one() or 0
