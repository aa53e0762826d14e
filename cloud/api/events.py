"""The events: in pages, or followed as they happen."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request

from cloud import schema, shapes
from cloud.api import streams
from cloud.api.dependencies import Limit, ServicesDep
from cloud.api.routes import JSON, Route
from cloud.api.streams import Streams
from cloud.registry import events
from cloud.registry.events import Filter
from cloud.services import Services
from runtime.errors import InvalidError

router = APIRouter(tags=["events"], route_class=Route)

MAX_ID = (1 << 63) - 1
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page of events, or with Accept: text/event-stream events as they happen.",
        "content": {
            streams.MEDIA_TYPE: {
                "schema": {"type": "string"},
                "example": 'id: 7\ndata: {"id":7,"kind":"deployment.created"}\n\n',
            }
        },
    }
}

Kinds = Annotated[
    list[Annotated[str, Query(max_length=64)]],
    Query(max_length=events.MAX_KINDS, description="deployment.created, deployment.*; none: all."),
]


@router.get("/events", responses=_ANSWERS, response_model=schema.Page[shapes.Event])
async def list_events(
    request: Request,
    services: ServicesDep,
    *,
    kind: Kinds = [],  # noqa: B006 - FastAPI copies it
    subject: Annotated[str | None, Query(max_length=256, description="This very subject.")] = None,
    subject_prefix: Annotated[
        str | None, Query(max_length=256, description="Every subject that begins so.")
    ] = None,
    after: Annotated[
        int | None,
        Query(ge=0, le=MAX_ID, description="Only events with higher ids."),
    ] = None,
    cursor: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
    limit: Limit = 100,
    newest: Annotated[bool, Query(description="The last page instead; oldest first too.")] = False,
    last_event_id: Annotated[str | None, Header(max_length=32)] = None,
) -> Any:
    """Return the history, oldest first: who did what when.

    With `Accept: text/event-stream` the answer has no end: it goes on from behind `Last-Event-ID`
    (or `after`), or from now, with each event as it is committed. Ids rise in the order of commits.
    """
    wanted = Filter(events.check_kinds(kind), subject, subject_prefix)
    start = cursor if cursor is not None else after
    header = request.headers.get("accept")
    if header is not None and streams.MEDIA_TYPE in header and JSON not in header:
        follower: Streams = request.app.state.streams
        return follower.follow(wanted, _id(last_event_id, start))
    if newest:
        return await to_thread.run_sync(_last_page, services, wanted, limit)
    return await to_thread.run_sync(_page, services, wanted, start or 0, limit)


def _page(services: Services, wanted: Filter, after: int, limit: int) -> schema.Page[shapes.Event]:
    with services.reading() as session:
        rows = events.page(session, wanted, after=after, limit=limit)
        items = [shapes.Event.model_validate(row.model_dump()) for row in rows]
    return schema.Page(items=items, next=str(items[-1].id) if len(items) == limit else None)


def _last_page(services: Services, wanted: Filter, limit: int) -> schema.Page[shapes.Event]:
    with services.reading() as session:
        rows = events.last(session, wanted, limit=limit)
        items = [shapes.Event.model_validate(row.model_dump()) for row in rows]
    return schema.Page(items=items)


def _id(header: str | None, after: int | None) -> int | None:
    if not header:
        return after
    if not header.isascii() or not header.isdigit() or int(header) > MAX_ID:
        raise InvalidError("Last-Event-ID", header, "send the id of an event")
    return int(header)
