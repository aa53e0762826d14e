"""What services write and did, and the places where they run."""

import itertools
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request

from cloud import schema, shapes
from cloud.api import serving_answers as answers
from cloud.api import streams
from cloud.api.dependencies import Limit, ReadSession, ServicesDep
from cloud.api.linestreams import LineStreams
from cloud.api.routes import JSON, Route
from cloud.hosting.targets import LogLine, Place
from cloud.registry import events
from cloud.registry.events import Filter
from cloud.registry.serving import rows
from cloud.services import Services

router = APIRouter(tags=["services"], route_class=Route)

MAX_LINES = 1000
MAX_LINES_TOGETHER = 10_000
MAX_ID = (1 << 63) - 1
Tail = Annotated[int, Query(ge=0, le=MAX_LINES, description="Of each replica, the last so many.")]
_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The last lines, or with Accept: text/event-stream lines as they come.",
        "content": {
            streams.MEDIA_TYPE: {
                "schema": {"type": "string"},
                "example": 'data: {"replica":"r1-0","text":"model ready","at":null}\n\n',
            }
        },
    },
    502: answers.REFUSED,
}


@router.get("/services/{service}/logs", responses=_LINES, response_model=shapes.ServiceLines)
async def logs(
    *,
    service: str,
    request: Request,
    services: ServicesDep,
    revision: Annotated[
        str | None, Query(pattern="^r[1-9][0-9]{0,8}$", description="Only of this one: r3.")
    ] = None,
    tail: Tail = 100,
) -> Any:
    """Return what the replicas of a service wrote last.

    With `Accept: text/event-stream` the answer goes on with what they write, as long as they run.
    """
    number = None if revision is None else rows.number(revision)
    place = await to_thread.run_sync(_place, services, service)
    header = request.headers.get("accept")
    if header is not None and streams.MEDIA_TYPE in header and JSON not in header:
        follower: LineStreams = request.app.state.lines
        return follower.follow(
            lambda: services.targets.of(place).logs(
                service, revision=number, follow=True, tail=tail
            )
        )
    found = await to_thread.run_sync(_lines, services, place, service, number, tail)
    return shapes.ServiceLines(items=[shapes.ServiceLine(**vars(line)) for line in found])


def _place(services: Services, name: str) -> Place:
    with services.reading() as session:
        return rows.place(rows.find(session, name) or rows.get(session, name))


def _lines(
    services: Services, place: Place, name: str, number: int | None, tail: int
) -> list[LogLine]:
    found = services.targets.of(place).logs(name, revision=number, follow=False, tail=tail)
    return list(itertools.islice(found, MAX_LINES_TOGETHER))


@router.post("/services/{service}/verify")
def verify(
    service: str, body: shapes.NewVerification, services: ServicesDep
) -> shapes.ServiceFindings:
    """Ask revisions the checks of their versions, through a gateway; compare what they answer."""
    # numpy costs 0.1 s and 20 MB, which a registry that is never asked this does not need
    from cloud.verification import inside  # noqa: PLC0415

    found = inside.verify(services, service, body.revision, timeout_s=body.timeout_s)
    items = [shapes.ServiceFinding(revision=name, **vars(each)) for name, each in found]
    return shapes.ServiceFindings(items=items)


@router.get("/services/{service}/events")
def list_events(
    *,
    service: str,
    session: ReadSession,
    cursor: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
    limit: Limit = 100,
) -> schema.Page[shapes.Event]:
    """Return what happened to a service, oldest first."""
    wanted = Filter(("service.*",), service)
    found = events.page(session, wanted, after=cursor or 0, limit=limit)
    items = [shapes.Event.model_validate(row.model_dump()) for row in found]
    return schema.Page(items=items, next=str(items[-1].id) if len(items) == limit else None)


@router.get("/places")
def list_places(services: ServicesDep) -> shapes.Places:
    """Return the places where services run, and what is there that is not the registry's."""
    return answers.places(services)
