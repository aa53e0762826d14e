"""What devices recorded."""

import dataclasses
from typing import Annotated

from fastapi import APIRouter, Query

from cloud import schema, shapes
from cloud.api.dependencies import ReadSession
from cloud.api.routes import Route
from cloud.registry import telemetry

router = APIRouter(tags=["telemetry"], route_class=Route)

Name = Annotated[str | None, Query(max_length=63)]
After = Annotated[int, Query(ge=0, le=(1 << 63) - 1)]
MAX_RECORDS = 1000


@router.get("/telemetry/records")
def list_records(
    *,
    session: ReadSession,
    model: Name = None,
    version: Annotated[int | None, Query(ge=1, le=(1 << 31) - 1)] = None,
    device: Name = None,
    since: float | None = None,
    cursor: After = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_RECORDS)] = 100,
    newest: bool = False,
) -> schema.Page[shapes.Record]:
    """Return records in the order of their arrival: from behind `cursor` on, or the newest."""
    wanted = telemetry.Filter(model, version, device, since)
    rows = (
        telemetry.newest(session, wanted, limit=limit)
        if newest
        else telemetry.records(session, wanted, after=cursor, limit=limit)
    )
    items = [shapes.Record.model_validate(row.model_dump()) for row in rows]
    more = bool(items) and not newest and len(items) == limit
    return schema.Page(items=items, next=str(items[-1].id) if more else None)


@router.get("/telemetry/stats")
def get_stats(
    session: ReadSession,
    model: Annotated[str, Query(max_length=63)],
    since: float | None = None,
) -> shapes.ModelStats:
    """Return what each version of a model did, over all devices."""
    found = telemetry.stats(session, model, since=since)
    return shapes.ModelStats(
        model=model,
        versions=[shapes.VersionStats(**dataclasses.asdict(each)) for each in found],
    )
