"""Devices and enrolment tokens."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlmodel import Session

from cloud import schema, shapes, tables
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
from cloud.registry import devices, explain, tokens
from cloud.rollouts import explaining
from cloud.services import Services

router = APIRouter(prefix="/devices", tags=["devices"], route_class=Route)

Selector = Annotated[str | None, Query(max_length=2048)]


@router.post("/tokens", status_code=201)
def make_token(
    body: shapes.NewToken, session: WriteSession, services: ServicesDep, actor: ActorDep
) -> shapes.Token:
    """Make an enrolment token; it is shown this once."""
    token, row = tokens.create(
        session,
        labels=body.labels,
        ttl_s=body.ttl_s,
        device=body.device_id,
        fingerprint=services.authority.fingerprint,
        actor=actor,
        now=services.clock.now(),
    )
    return shapes.Token(
        token=token, device_id=row.device, labels=row.labels, expires_at=row.expires_at
    )


@router.get("")
def list_devices(
    session: ReadSession,
    services: ServicesDep,
    selector: Selector = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> schema.Page[shapes.Device]:
    """Return devices by id, all or those that a selector matches."""
    found = devices.page(session, after=cursor or "", limit=limit, selector=selector)
    following = found[-1].id if len(found) == limit else None
    return schema.Page(items=[_device(session, services, each) for each in found], next=following)


@router.get("/{device}")
def get_device(
    device: str, session: ReadSession, services: ServicesDep, shown: ShownDep
) -> shapes.Device:
    """Return one device."""
    row = devices.get(session, device)
    return shown(_device(session, services, row), row.revision)


@router.patch("/{device}/labels")
def set_labels(
    *,
    device: str,
    body: shapes.LabelChanges,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.Device:
    """Set labels, remove those that are null; what the device shall run follows at once."""
    unchanged(devices.get(session, device).revision)
    now = services.clock.now()
    row = devices.set_labels(session, device, body.labels, actor=actor, now=now)
    return answered(_device(session, services, row), row.revision)


@router.get("/{device}/explanation")
def explanation(device: str, session: ReadSession, services: ServicesDep) -> shapes.Explanation:
    """Say why a device runs what it runs, and what blocks the next."""
    return explaining.explanation(session, services, device)


@router.post("/{device}/revoke")
def revoke(
    *,
    device: str,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.Device:
    """Shut a device out. Doing it again changes nothing."""
    unchanged(devices.get(session, device).revision)
    row = devices.revoke(session, device, actor=actor, now=services.clock.now())
    return answered(_device(session, services, row), row.revision)


def _device(session: Session, services: Services, row: tables.Device) -> shapes.Device:
    wanted = session.get(tables.Desired, row.id)
    heard = explain.presence(
        online=row.online,
        last_seen=row.last_seen,
        lease_s=row.lease_s or services.settings.lease_s,
        now=services.clock.now(),
    )
    reported: dict[str, Any] = row.reported or {}
    modules = [shapes.ModuleState.model_validate(each) for each in reported.get("modules", ())]
    return shapes.Device(
        id=row.id,
        labels=row.labels,
        facts=row.facts,
        presence=heard.value,
        last_seen=row.last_seen,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        certificate_not_after=row.certificate_not_after,
        generation=0 if wanted is None else wanted.generation,
        reported_generation=row.reported_generation,
        reported_at=row.reported_at,
        modules=modules,
        vitals=reported.get("vitals", {}),
        drops=reported.get("drops", {}),
        troubles=list(reported.get("troubles", ())),
    )
