"""What ran where, from when to when, by whose act."""

from typing import Annotated

from fastapi import APIRouter, Query

from cloud import schema, shapes, tables
from cloud.api import serving_answers
from cloud.api.dependencies import Cursor, Limit, ReadSession, ServicesDep
from cloud.api.routes import Route
from cloud.registry import history
from cloud.registry.history import Moment, Wanted
from cloud.registry.serving import runs
from runtime.errors import InvalidError

router = APIRouter(prefix="/history", tags=["history"], route_class=Route)

Name = Annotated[str | None, Query(max_length=63)]
Version = Annotated[int | None, Query(ge=1, le=(1 << 31) - 1)]
MAX_ID = (1 << 63) - 1


@router.get("/runs")
def list_runs(
    *,
    session: ReadSession,
    device: Name = None,
    module: Name = None,
    model: Name = None,
    version: Version = None,
    deployment: Name = None,
    cursor: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
    limit: Limit = 50,
) -> schema.Page[shapes.Run]:
    """Return what ran where, that which became known last first."""
    wanted = Wanted(device, module, model, version, deployment)
    found = history.runs(session, wanted, before=cursor, limit=limit)
    heard = history.last_heard(session, {row.device for row in found})
    items = [_run(row, heard.get(row.device)) for row in found]
    return schema.Page(items=items, next=str(found[-1].id) if len(found) == limit else None)


@router.get("/services")
def list_service_runs(
    *,
    session: ReadSession,
    service: Name = None,
    model: Name = None,
    version: Version = None,
    at: Annotated[
        float | None,
        Query(ge=0, description="Only what was under way then, in seconds since 1970."),
    ] = None,
    cursor: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
    limit: Limit = 50,
) -> schema.Page[shapes.ServiceRun]:
    """Return what had which share of a service's traffic, what became known last first."""
    wanted = runs.Wanted(service, model, version, at)
    found = runs.page(session, wanted, before=cursor, limit=limit)
    items = [serving_answers.run(row) for row in found]
    return schema.Page(items=items, next=str(found[-1].id) if len(found) == limit else None)


@router.get("/moment")
def get_moment(
    *,
    session: ReadSession,
    services: ServicesDep,
    at: Annotated[
        float, Query(ge=0, description="Seconds since 1970 (UTC).", examples=[1777636800])
    ],
    device: Name = None,
    module: Name = None,
    model: Name = None,
    version: Version = None,
    deployment: Name = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> schema.Page[shapes.Moment]:
    """Return what ran on each device at one time, and whether it was heard from then.

    With a model, version, module or deployment: on the devices where such a thing ran.
    """
    now = services.clock.now()
    if at > now:
        raise InvalidError("at", at, "give a time that has passed")
    found = history.moments(
        session,
        Wanted(device, module, model, version, deployment),
        at,
        after=cursor or "",
        limit=limit,
        lease_s=services.settings.lease_s,
        now=now,
    )
    following = found[-1].device if len(found) == limit else None
    return schema.Page(items=[_moment(each, at) for each in found], next=following)


def _moment(found: Moment, at: float) -> shapes.Moment:
    return shapes.Moment(
        device=found.device,
        at=at,
        heard=found.heard.value,
        last_heard=found.last_heard,
        runs=[_run(row, None) for row in found.runs],
    )


def _run(row: tables.Run, heard: float | None) -> shapes.Run:
    shown = row.model_dump()
    return shapes.Run(**shown, last_heard=heard if row.until_at is None else None)
