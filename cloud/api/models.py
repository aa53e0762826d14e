"""Models: registered by their versions, searched, described, deleted."""

import logging
from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Response

from cloud import schema, shapes
from cloud.api import answers
from cloud.api.dependencies import ActorDep, Limit, ReadSession, ServicesDep, WriteSession
from cloud.api.preconditions import AnsweredDep, ShownDep, UnchangedDep
from cloud.api.routes import Route
from cloud.registry import deletion, descriptions, models, registration, search
from cloud.registry.query_reader import MAX_QUERY_CHARS
from cloud.registry.registration import Said, Upload
from cloud.registry.search import MAX_CURSOR_CHARS, Wanted
from cloud.services import Services
from cloud.storage import presence
from cloud.storage.encodings import Recipe
from runtime import digests
from runtime.bundle import encodings
from runtime.digests import Digest
from runtime.errors import PackhorseError

log = logging.getLogger(__name__)

router = APIRouter(tags=["models"], route_class=Route)

SearchText = Annotated[
    str,
    Query(alias="query", max_length=MAX_QUERY_CHARS, description="tag.task = anomaly AND latest"),
]
Sort = Annotated[str, Query(max_length=32, description=", ".join(search.SORTS) + "; - downwards")]
SearchCursor = Annotated[str | None, Query(max_length=MAX_CURSOR_CHARS)]


def received(name: str, body: shapes.NewVersion, services: ServicesDep) -> Upload:
    """Return the bundle that a request names; read before a transaction begins."""
    bundle = digests.parse(body.bundle, "bundle")
    return registration.receive(services.blobs, name, bundle, allow=services.settings.allow)


@router.post("/models/{name}/versions", status_code=201)
def register(
    *,
    body: shapes.NewVersion,
    upload: Annotated[Upload, Depends(received)],
    response: Response,
    background: BackgroundTasks,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    answered: AnsweredDep,
) -> shapes.Registered:
    """Register the bundle with this index, an uploaded blob, as the next version of the model.

    200 and created=false if the newest version has the same content: what is said in this request
    is a change to that version then.
    """
    presence.require(session, services.blobs, upload.blobs, now=services.clock.now())
    said = Said(answers.changes(body), answers.lineage_changes(body.lineage), tuple(body.aliases))
    version, created = registration.register(
        session, upload, said, actor=actor, now=services.clock.now()
    )
    answer = answers.version_of(session, version)
    if created:
        background.add_task(_encode, services, list(upload.blobs))
    else:
        response.status_code = 200
    return answered(shapes.Registered(**answer.model_dump(), created=created), version.revision)


def _encode(services: Services, blobs: Iterable[Digest]) -> None:
    """Make what devices will ask for, so that the first one need not wait."""
    try:
        for blob in blobs:
            services.encodings.get(Recipe(blob, encodings.ZSTD))
    except PackhorseError as error:
        log.warning("encoding failed; it is tried again on demand", extra={"why": str(error)})


@router.get("/models")
def list_models(
    session: ReadSession,
    query: SearchText = "",
    sort: Sort = "name",
    cursor: SearchCursor = None,
    limit: Limit = 50,
) -> schema.Page[shapes.Model]:
    """Return models, all or those whose newest version fulfils a query (docs/specs/registry.md)."""
    found = search.models(session, Wanted(query, sort, limit, cursor))
    rows = models.summaries(session, [name for name, _number in found.versions])
    return schema.Page(items=[answers.model(each) for each in rows], next=found.next)


@router.get("/models/{name}")
def get_model(name: str, session: ReadSession, give: ShownDep) -> shapes.Model:
    """Return one model."""
    found = models.summary(session, name)
    return give(answers.model(found), found.model.revision)


@router.patch("/models/{name}")
def update_model(
    *,
    name: str,
    body: shapes.ModelChanges,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.Model:
    """Say something else of a model; its versions are found by it too."""
    unchanged(models.get(session, name).revision)
    now = services.clock.now()
    row = descriptions.update_model(session, name, answers.changes(body), actor=actor, now=now)
    return answered(answers.model(models.summary(session, name)), row.revision)


@router.get("/models/{name}/usage")
def get_usage(name: str, session: ReadSession) -> shapes.Usage:
    """Return who needs any version of a model, so that it could not be deleted."""
    return answers.usage(deletion.usage_of_model(session, name))


@router.delete("/models/{name}")
def delete_model(
    name: str,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
) -> shapes.Deleted:
    """Forget a model and all its versions; 409, and by whom, while any is used."""
    unchanged(models.get(session, name).revision)
    found = deletion.delete_model(session, name, actor=actor, now=services.clock.now())
    return shapes.Deleted(deleted=name, running=list(found.running))
