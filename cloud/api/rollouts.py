"""Rollouts: documents that reach their devices wave by wave."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from sqlmodel import Session

from cloud import schema, shapes, tables
from cloud.api import dependencies
from cloud.api.dependencies import (
    ActorDep,
    Cursor,
    Limit,
    ReadSession,
    ServicesDep,
    WriteSession,
)
from cloud.api.preconditions import AnsweredDep, ShownDep, UnchangedDep
from cloud.api.routes import Route
from cloud.rollouts import making, planning, reasons, rows, troubles

router = APIRouter(prefix="/rollouts", tags=["rollouts"], route_class=Route)

MAX_DEVICES = 1000
DeviceLimit = Annotated[int, Query(ge=1, le=MAX_DEVICES)]


@router.post("", status_code=201)
def create(
    body: shapes.DeploymentDocument, session: WriteSession, services: ServicesDep, actor: ActorDep
) -> shapes.Rollout:
    """Begin to bring a document to its devices, as its strategy says."""
    row = making.create(session, body, actor=actor, now=services.clock.now())
    return _rollout(session, row)


@router.post("/rollback", status_code=201)
def rollback(
    body: shapes.Rollback, session: WriteSession, services: ServicesDep, actor: ActorDep
) -> shapes.Rollout:
    """Roll out once more what an earlier rollout or deployment brought."""
    row = making.rollback(session, body.to, actor=actor, now=services.clock.now())
    return _rollout(session, row)


@router.post("/plan")
def plan(
    body: shapes.DeploymentDocument, session: ReadSession, services: ServicesDep
) -> shapes.Plan:
    """Say what a document would do; nothing moves."""
    return planning.plan(session, services, body)


@router.get("")
def list_rollouts(
    session: ReadSession, cursor: Cursor = None, limit: Limit = 50
) -> schema.Page[shapes.Rollout]:
    """Return rollouts, newest first."""
    found = rows.page(session, before=dependencies.sequence(cursor), limit=limit)
    counts = rows.counts(session, [row.id for row in found])
    following = str(found[-1].sequence) if len(found) == limit else None
    items = [_rollout(session, row, counts.get(row.id, {})) for row in found]
    return schema.Page(items=items, next=following)


@router.get("/{rollout}")
def show(
    *,
    rollout: str,
    session: ReadSession,
    services: ServicesDep,
    give: ShownDep,
    cursor: Cursor = None,
    limit: DeviceLimit = MAX_DEVICES,
) -> shapes.RolloutDetail:
    """Return a rollout, what holds it up, and where each of its devices is."""
    row = rows.get(session, rollout)
    members = [each for each in rows.members(session, row.id) if each.device > (cursor or "")]
    shown = members[:limit]
    answer = shapes.RolloutDetail(
        rollout=_rollout(session, row),
        document=rows.document(row),
        blocked=reasons.blocked(
            session, row, lease_s=services.settings.lease_s, now=services.clock.now()
        ),
        devices=[_device(each) for each in shown],
        next=shown[-1].device if len(members) > limit else None,
    )
    return give(answer, row.revision)


@router.post("/{rollout}/orders")
def order(
    *,
    rollout: str,
    body: shapes.Order,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.Rollout:
    """Pause, resume, approve, promote, cancel or revert; who and when is kept."""
    unchanged(rows.get(session, rollout).revision)
    now = services.clock.now()
    row = making.give_order(session, rollout, body.order, note=body.note, actor=actor, now=now)
    return answered(_rollout(session, row), row.revision)


def _rollout(
    session: Session, row: tables.Rollout, counts: dict[str, int] | None = None
) -> shapes.Rollout:
    if counts is None:
        counts = rows.counts(session, [row.id]).get(row.id, {})
    return shapes.Rollout(
        id=row.id,
        name=row.name,
        target=row.document["target"],
        priority=row.document["priority"],
        state=row.state,
        reason=row.reason,
        troubles=[shapes.Trouble(**asdict(each)) for each in troubles.of(row)],
        since=row.since,
        wave=row.wave,
        waves=len(row.document["strategy"]["waves"]) + 1,
        step=row.step,
        counts=counts,
        modules=[_module(each) for each in rows.modules(session, row.id)],
        approvals=[shapes.Approval.model_validate(each) for each in row.approvals],
        origin=row.origin,
        created_at=row.created_at,
        created_by=row.created_by,
        ended_at=row.ended_at,
    )


def _module(row: tables.Deployment) -> shapes.RolledModule:
    return shapes.RolledModule(
        module=row.module,
        deployment=row.id,
        model=row.model,
        version=row.version,
        alias=row.alias,
        bundle=row.bundle,
    )


def _device(row: tables.RolloutDevice) -> shapes.RolloutDevice:
    return shapes.RolloutDevice(
        device=row.device,
        wave=row.wave,
        standing=row.standing,
        reason=row.reason,
        since=row.since,
        retries=row.retries,
    )
