"""What the reconciler decided, as rows and events of the same transaction."""

from sqlmodel import Session

from cloud import tables
from cloud.hosting import moves
from cloud.hosting.sight import Decision, Note, Seen
from cloud.registry import events
from cloud.registry.serving import rows

READY, DEGRADED = "ready", "degraded"


def take_over(session: Session, row: tables.Service, decision: Decision, now: float) -> None:
    """Write down what was decided, and tell of it."""
    rows.set_state(session, row, decision.state)
    for note in decision.notes:
        _tell(session, row, note, now)
    for number, why in decision.failed.items():
        _mark(session, row, number, why[: events.MAX_REASON_CHARS])
    stable = decision.state.stable
    if any(note.kind == moves.PROMOTED for note in decision.notes) and stable is not None:
        _mark(session, row, stable, "")


def _mark(session: Session, row: tables.Service, number: int, why: str) -> None:
    made = rows.revision(session, row, number)
    made.failed_reason = why
    session.add(made)


def tell_condition(
    session: Session, row: tables.Service, condition: str, seen: Seen, now: float
) -> None:
    """Write down that a service is as it is, and why."""
    row.condition = condition
    session.add(row)
    if condition == READY:
        _tell(session, row, Note("service.ready", {}), now)
    else:
        why = seen.why(sorted(seen.revisions)) or "its gateway does not answer"
        _tell(session, row, Note("service.degraded", {"reason": why}), now)


def _tell(session: Session, row: tables.Service, note: Note, now: float) -> None:
    data = dict(note.data)
    if "reason" in data:
        data["reason"] = str(data["reason"])[: events.MAX_REASON_CHARS]
    events.add(session, at=now, actor=events.REGISTRY, kind=note.kind, subject=row.name, data=data)
