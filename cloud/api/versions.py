"""Versions of models: searched, described, traced, deleted. Registration is in cloud.api.models."""

from typing import Any

from fastapi import APIRouter, Response

from cloud import schema, shapes
from cloud.api import answers
from cloud.api.dependencies import (
    ActorDep,
    Cursor,
    Limit,
    ReadSession,
    ServicesDep,
    WriteSession,
)
from cloud.api.models import SearchCursor, SearchText, Sort
from cloud.api.preconditions import AnsweredDep, ShownDep, UnchangedDep
from cloud.api.routes import Route
from cloud.registry import deletion, descriptions, lineage, models, search
from cloud.registry.search import Wanted
from runtime.bundle.index import MAX_INDEX_BYTES
from runtime.digests import Digest
from runtime.errors import InvalidError

router = APIRouter(tags=["models"], route_class=Route)

_MARKDOWN: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}
}


@router.get("/versions")
def search_versions(
    session: ReadSession,
    query: SearchText = "",
    sort: Sort = "name",
    cursor: SearchCursor = None,
    limit: Limit = 50,
) -> schema.Page[shapes.Version]:
    """Return versions of any model that fulfil a query (docs/specs/registry.md)."""
    found = search.versions(session, Wanted(query, sort, limit, cursor))
    known = models.details(session, found.versions)
    items = [answers.version(known[key]) for key in found.versions if key in known]
    return schema.Page(items=items, next=found.next)


@router.get("/models/{name}/versions")
def list_versions(
    name: str, session: ReadSession, cursor: Cursor = None, limit: Limit = 50
) -> schema.Page[shapes.Version]:
    """Return the versions of a model, oldest first."""
    found = models.versions(session, name, after=_number(cursor), limit=limit)
    following = str(found[-1].number) if len(found) == limit else None
    keys = [(name, each.number) for each in found]
    known = models.details(session, keys)
    return schema.Page(items=[answers.version(known[key]) for key in keys], next=following)


@router.get("/models/{name}/versions/{version}")
def get_version(name: str, version: str, session: ReadSession, give: ShownDep) -> shapes.Version:
    """Return a version by its number, an alias or "latest"."""
    row = models.version(session, name, version)
    return give(answers.version_of(session, row), row.revision)


@router.patch("/models/{name}/versions/{version}")
def update_version(
    *,
    name: str,
    version: str,
    body: shapes.VersionChanges,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.Version:
    """Say something else of a version, or where it comes from."""
    now = services.clock.now()
    row = models.version(session, name, version)
    unchanged(row.revision)
    descriptions.update_version(session, row, answers.changes(body), actor=actor, now=now)
    given = answers.lineage_changes(body.lineage)
    if "lineage" in body.model_fields_set and body.lineage is None:
        given = dict.fromkeys(lineage.FIELDS)
    lineage.change(session, row, given, actor=actor, now=now)
    return answered(answers.version_of(session, row), row.revision)


@router.get("/models/{name}/versions/{version}/usage")
def get_usage(name: str, version: str, session: ReadSession) -> shapes.Usage:
    """Return who needs a version, so that it could not be deleted."""
    return answers.usage(deletion.usage(session, models.version(session, name, version)))


@router.delete("/models/{name}/versions/{version}")
def delete_version(
    *,
    name: str,
    version: str,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
) -> shapes.Deleted:
    """Forget a version; 409, and by whom, while it is used. Its number is never given again."""
    row = models.version(session, name, version)
    unchanged(row.revision)
    what = f"{row.model}:{row.number}"
    found = deletion.delete_version(session, row, actor=actor, now=services.clock.now())
    return shapes.Deleted(deleted=what, running=list(found.running))


@router.get("/models/{name}/versions/{version}/index")
def get_index(name: str, version: str, session: ReadSession, services: ServicesDep) -> Response:
    """Return the index of a version: its exact bytes, whose SHA-256 is the bundle's identity."""
    found = models.version(session, name, version)
    content = services.blobs.bytes_of(Digest(found.bundle), limit_bytes=MAX_INDEX_BYTES)
    return Response(content, media_type="application/json", headers={"ETag": f'"{found.bundle}"'})


@router.get("/models/{name}/versions/{version}/lineage")
def get_lineage(name: str, version: str, session: ReadSession) -> shapes.Family:
    """Return where a version comes from, and what came from it."""
    row = models.version(session, name, version)
    return answers.family(row, lineage.family(session, row))


@router.get("/models/{name}/versions/{version}/card", response_class=Response, responses=_MARKDOWN)
def get_version_card(name: str, version: str, session: ReadSession) -> Response:
    """Return the model card of a version, or else that of its model, as Markdown."""
    row = models.version(session, name, version)
    return _markdown(descriptions.card(session, name, row.number))


@router.get("/models/{name}/card", response_class=Response, responses=_MARKDOWN)
def get_model_card(name: str, session: ReadSession) -> Response:
    """Return the model card of a model, as Markdown."""
    models.get(session, name)
    return _markdown(descriptions.card(session, name, 0))


def _markdown(text: str) -> Response:
    return Response(text, media_type="text/markdown; charset=utf-8")


def _number(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit():
        raise InvalidError("cursor", cursor, "send the `next` of the page before")
    return min(int(cursor), 2**31 - 1)
