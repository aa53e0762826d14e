"""Rollouts in the database: read as values, and written back where they changed."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, func, select

from cloud import shapes, tables
from cloud.errors import NotFoundError
from cloud.registry import events
from cloud.rollouts import documents
from cloud.rollouts.state import (
    ENDED,
    MOVING,
    OVER,
    Action,
    Assign,
    Enter,
    Member,
    Move,
    Rollout,
    Standing,
    State,
    Step,
    Turn,
)

MOVING_STATES = tuple(state.value for state in MOVING)
OPEN_STATES = (*MOVING_STATES, State.COMPLETE.value)
UNSETTLED = tuple(standing.value for standing in Standing if standing not in ENDED)
KINDS: Mapping[State, str] = {
    State.RUNNING: "rollout.resumed",
    State.PAUSED: "rollout.paused",
    State.REVERTING: "rollout.revert_started",
    State.COMPLETE: "rollout.completed",
    State.STOPPED: "rollout.stopped",
    State.REVERTED: "rollout.reverted",
    State.CANCELLED: "rollout.cancelled",
    State.SUPERSEDED: "rollout.superseded",
}
"""The event that each state begins with."""


def get(session: Session, rollout: str) -> tables.Rollout:
    """Return a rollout by its id, or the newest of a name; raise NotFoundError if there is none."""
    row = tables.Rollout
    found = session.exec(select(row).where(row.id == rollout)).one_or_none()
    if found is None:
        named = select(row).where(row.name == rollout).order_by(col(row.sequence).desc())
        found = session.exec(named.limit(1)).one_or_none()
    if found is None:
        raise NotFoundError("rollout", rollout, "see `packhorse rollouts list`")
    return found


def page(session: Session, *, before: int | None, limit: int) -> Sequence[tables.Rollout]:
    """Return up to `limit` rollouts, newest first, older than number `before`."""
    query = select(tables.Rollout)
    if before is not None:
        query = query.where(col(tables.Rollout.sequence) < before)
    return session.exec(query.order_by(col(tables.Rollout.sequence).desc()).limit(limit)).all()


def document(row: tables.Rollout) -> shapes.DeploymentDocument:
    """Return what a rollout brings to its devices."""
    return shapes.DeploymentDocument.model_validate(row.document)


def modules(session: Session, rollout: str) -> list[tables.Deployment]:
    """Return the deployments of a rollout, by module."""
    query = select(tables.Deployment).where(tables.Deployment.rollout == rollout)
    return list(session.exec(query.order_by(col(tables.Deployment.module))))


def members(session: Session, rollout: str) -> list[tables.RolloutDevice]:
    """Return the devices of a rollout, by id."""
    row = tables.RolloutDevice
    query = select(row).where(row.rollout == rollout).order_by(col(row.device))
    return list(session.exec(query))


def known(session: Session, rollout: str) -> set[str]:
    """Return the ids of the devices of a rollout."""
    query = select(tables.RolloutDevice.device).where(tables.RolloutDevice.rollout == rollout)
    return set(session.exec(query))


def _values(session: Session, rollout: str) -> dict[str, Member]:
    """Return the devices of a rollout as values, without a row object for each: they are many."""
    row = tables.RolloutDevice
    standings = (row.device, row.standing, row.since, row.wave, row.retries, row.reason)
    terms = (row.admitted_at, row.not_before, row.not_after)
    query = sa.select(*map(col, standings), *map(col, terms)).where(col(row.rollout) == rollout)
    found = {}
    for device, standing, since, wave, retries, why, at, start, stop in session.execute(query):
        window = None if start is None else (start, stop)
        found[device] = Member(Standing(standing), since, wave, retries, why, at, window)
    return found


def counts(session: Session, rollouts: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return for each of these rollouts how many devices are where."""
    row = tables.RolloutDevice
    query = (
        select(row.rollout, row.standing, func.count())
        .where(col(row.rollout).in_(list(rollouts)))
        .group_by(row.rollout, row.standing)
    )
    found: dict[str, dict[str, int]] = {}
    for rollout, standing, count in session.exec(query):
        found.setdefault(rollout, {})[standing] = count
    return found


def read(session: Session, row: tables.Rollout) -> Rollout:
    """Return a rollout as a value."""
    return Rollout(
        id=row.id,
        strategy=documents.strategy(document(row)),
        state=State(row.state),
        began_at=row.created_at,
        wave=row.wave,
        step=Step(row.step),
        wave_at=row.wave_at,
        reason=row.reason,
        approved=_waves(row, "approve"),
        promoted=_waves(row, "promote"),
        members=_values(session, row.id),
    )


def _waves(row: tables.Rollout, kind: str) -> frozenset[int]:
    return frozenset(each["wave"] for each in row.approvals if each["kind"] == kind)


def write(
    session: Session, row: tables.Rollout, before: Rollout, after: Rollout, *, now: float
) -> list[str]:
    """Write what differs; return the devices whose desired state must be computed anew."""
    row.wave, row.step, row.wave_at = after.wave, after.step.value, after.wave_at
    row.reason = after.reason
    row.revision += 1
    if after.state is not before.state:
        row.state, row.since = after.state.value, now
        if after.state is State.COMPLETE:
            row.completed_at = now
        row.ended_at = now if after.state in OVER else None
    session.add(row)
    session.flush()
    return _write_members(session, row.id, before, after)


def _write_members(session: Session, rollout: str, before: Rollout, after: Rollout) -> list[str]:
    """Write the devices that changed; return those whose desired state is another now."""
    changed = {
        device: member
        for device, member in after.members.items()
        if before.members.get(device) != member
    }
    values = [
        {
            "b_device": device,
            "standing": member.standing.value,
            "admitted": member.admitted,
            "since": member.since,
            "wave": member.wave,
            "retries": member.retries,
            "reason": member.reason,
            "admitted_at": member.admitted_at,
            "not_before": None if member.window is None else member.window[0],
            "not_after": None if member.window is None else member.window[1],
        }
        for device, member in changed.items()
    ]
    if values:
        table = tables.RolloutDevice.__table__  # type: ignore[attr-defined]  # SQLModel hides it
        statement = sa.update(table).where(
            table.c.rollout == rollout, table.c.device == sa.bindparam("b_device")
        )
        session.connection().execute(statement, values)
        session.expire_all()
    return [
        device
        for device, member in changed.items()
        if (was := before.members.get(device)) is None
        or (was.admitted, was.retries, was.window)
        != (member.admitted, member.retries, member.window)
    ]


def join(session: Session, rollout: str, devices: Iterable[str], *, now: float) -> None:
    """Have more devices wait for their turn."""
    values = [
        {
            "rollout": rollout,
            "device": device,
            "standing": Standing.WAITING.value,
            "admitted": False,
            "since": now,
            "retries": 0,
            "reason": "",
        }
        for device in devices
    ]
    if values:
        session.execute(sa.insert(tables.RolloutDevice), values)


def retire(session: Session, row: tables.Rollout, rollout: Rollout, *, now: float) -> None:
    """Withdraw the deployments of a rollout that is over and that no device has any more.

    What a reverted one had superseded lets devices in again that join.
    """
    if rollout.state not in OVER or any(each.admitted for each in rollout.members.values()):
        return
    for each in modules(session, row.id):
        if each.cancelled_at is None:
            each.cancelled_at = now
            each.revision += 1
            session.add(each)
    query = select(tables.Rollout).where(
        tables.Rollout.superseded_by == row.id, col(tables.Rollout.completed_at).is_not(None)
    )
    for former in session.exec(query).all():
        if former.state == State.SUPERSEDED.value and former.completed_at is not None:
            former.state, former.since, former.ended_at = State.COMPLETE.value, now, None
            former.reason, former.superseded_by = "", ""
            former.revision += 1
            session.add(former)
    session.flush()


def tell(
    session: Session, row: tables.Rollout, actions: Sequence[Action], *, actor: str, now: float
) -> None:
    """Leave an event for each thing that happened to a rollout, and for how devices ended."""
    for action, following in itertools.zip_longest(actions, actions[1:]):
        kind, data = _event(action, following)
        if kind:
            data = {"name": row.name, **data}
            events.add(session, at=now, actor=actor, kind=kind, subject=row.id, data=data)


def _event(action: Action, following: Action | None) -> tuple[str, dict[str, Any]]:
    match action:
        case Enter(_, Step.OPEN) if not isinstance(following, Assign):
            # A wave begins when it gets its devices; to come to it is no event yet.
            return "", {}
        case Turn(state, reason):
            return KINDS[state], {"reason": reason}
        case Enter(wave, step, reason, filled):
            what = {
                Step.APPROVAL: "rollout.approval_needed",
                Step.OPEN: "rollout.wave_started" if filled else "",
                Step.SOAKING: "rollout.wave_passed",
            }[step]
            return what, {"wave": wave, "reason": reason}
        case Move(device, standing, reason) if standing in ENDED:
            data = {"device": device, "outcome": standing.value, "reason": reason}
            return "rollout.device_ended", data
        case _:
            return "", {}
