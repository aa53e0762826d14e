"""What operators do to a service's traffic and replicas: see cloud.hosting.commands."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlmodel import Session, col, select

from cloud import tables
from cloud.errors import ConflictError
from cloud.hosting import commands, moves
from cloud.hosting.state import State
from cloud.hosting.targets import Scale
from cloud.registry import events
from cloud.registry.serving import rows, services
from cloud.registry.serving.specs import check_scale


def set_traffic(
    session: Session,
    row: tables.Service,
    weights: Mapping[int, int] | None,
    *,
    mirror: int | None,
    mirror_fraction: float | None,
    unmirror: bool = False,
    actor: str,
    now: float,
) -> None:
    """Have these shares, as soon as all that get one are ready; and copies sent, or no more."""
    state = rows.state(row)
    if weights is not None:
        _require_usable(session, row, [n for n, weight in weights.items() if weight])
        state = commands.set_traffic(state, weights, now)
    if mirror is not None or unmirror:
        _require_usable(session, row, [] if mirror is None else [mirror])
        fraction = state.mirror_fraction if mirror_fraction is None else mirror_fraction
        state = commands.set_mirror(state, mirror, fraction)
    data = {
        "asked": None if weights is None else moves.weights_text(weights),
        "mirror": None if state.mirror is None else f"r{state.mirror}",
        "reason": "by hand",
    }
    _save(session, row, state, moves.TRAFFIC, data, actor=actor, now=now)


def promote(session: Session, row: tables.Service, *, actor: str, now: float) -> None:
    """Give the newest revision that runs all the traffic; raise ConflictError if it has it."""
    state = commands.promote(rows.state(row), now)
    assert state.rollout is not None, "it takes over, or ends to soak"
    _require_usable(session, row, [*state.rollout.goal])
    for number in state.rollout.goal:
        made = rows.revision(session, row, number)
        made.failed_reason = ""
        session.add(made)
    data = {"asked": moves.weights_text(state.rollout.goal), "reason": "by hand"}
    _save(session, row, state, moves.TRAFFIC, data, actor=actor, now=now)


def rollback(
    session: Session, row: tables.Service, to: int | None, *, actor: str, now: float
) -> None:
    """Go back to where the traffic was before, or to a revision; raise ConflictError without."""
    state = commands.rollback(rows.state(row), to, now, reason=f"by {actor}")
    assert state.rollout is not None, "it goes back"
    _require_usable(session, row, [*state.rollout.goal])
    data = {"asked": moves.weights_text(state.rollout.goal), "reason": "rollback by hand"}
    _save(session, row, state, moves.TRAFFIC, data, actor=actor, now=now)


def scale(
    session: Session,
    row: tables.Service,
    wanted: Scale,
    *,
    number: int | None,
    actor: str,
    now: float,
) -> None:
    """Have so many replicas of a revision; None: of all that run."""
    state = rows.state(row)
    numbers = sorted(state.wanted) if number is None else [number]
    for each in numbers:
        made = rows.revision(session, row, each)
        check_scale(wanted, rows.resources(made), row.kind)
        made.scale = msgspec.to_builtins(wanted)
        session.add(made)
    row.generation += 1
    data = {"revisions": [f"r{each}" for each in numbers], **msgspec.to_builtins(wanted)}
    _save(session, row, state, "service.scaled", data, actor=actor, now=now)


def _save(
    session: Session,
    row: tables.Service,
    state: State,
    kind: str,
    data: Mapping[str, Any],
    *,
    actor: str,
    now: float,
) -> None:
    rows.set_state(session, row, state)
    services.note_change(session, row, now=now)
    events.add(session, at=now, actor=actor, kind=kind, subject=row.name, data=data)


def _require_usable(session: Session, row: tables.Service, numbers: list[int]) -> None:
    """Raise ConflictError for a revision whose version was deleted: it cannot be made again."""
    for number in numbers:
        made = rows.revision(session, row, number)
        version = session.get(tables.Version, (made.model, made.version))
        if version is None or version.bundle != made.bundle:
            raise ConflictError(
                f"r{number}: its version {made.model}:{made.version} was deleted: deploy another"
            )


def users(session: Session, model: str, version: int) -> list[tuple[str, str]]:
    """Return services that need a version, each with the names of its revisions."""
    made, service = tables.ServiceRevision, tables.Service
    query = (
        select(service, made)
        .join(made, col(made.service) == col(service.name))
        .where(made.model == model, made.version == version, col(service.deleted_at).is_(None))
        .order_by(col(service.name), col(made.number))
    )
    found: dict[str, list[str]] = {}
    for row, each in session.exec(query):
        if each.number >= row.first_number and each.number in rows.state(row).needed:
            found.setdefault(row.name, []).append(f"r{each.number}")
    return [(name, ", ".join(names)) for name, names in found.items()]
