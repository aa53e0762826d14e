"""Models, versions, and the blobs behind them."""

import logging
from collections.abc import Iterable
from typing import Annotated, BinaryIO, cast

import zstandard
from fastapi import APIRouter, BackgroundTasks, Depends, Header, Request, Response
from fastapi.responses import FileResponse

from cloud import schema, shapes, tables
from cloud.api.dependencies import (
    ActorDep,
    Cursor,
    Limit,
    ReadSession,
    ServicesDep,
)
from cloud.api.uploads import BodyReader, Bounded
from cloud.errors import NotFoundError
from cloud.registry import models
from cloud.services import Services
from cloud.storage.blobs import key_of
from cloud.storage.encodings import Recipe
from runtime import digests
from runtime.bundle import encodings
from runtime.bundle.index import MAX_INDEX_BYTES
from runtime.digests import Digest
from runtime.errors import InvalidError, PackhorseError

log = logging.getLogger(__name__)

router = APIRouter(tags=["models"])
MAX_WINDOW_BYTES = 128 << 20
"""Memory that a compressed upload may ask for; what `zstd --long` needs at most."""


@router.put("/blobs/{sha256}")
def put_blob(
    sha256: str,
    request: Request,
    services: ServicesDep,
    content_encoding: Annotated[str | None, Header()] = None,
) -> shapes.BlobStored:
    """Store a blob, sent plain or with Content-Encoding: zstd. Doing it again changes nothing."""
    digest = digests.parse(sha256, "sha256")
    body = BodyReader(request)
    if services.blobs.has(digest):
        body.drain()
        return shapes.BlobStored(sha256=digest, size_bytes=services.blobs.size(digest))
    limit = services.settings.max_blob_bytes
    try:
        size = services.blobs.put_stream(
            digest, Bounded(_decoded(body, content_encoding), limit), limit_bytes=limit
        )
    except zstandard.ZstdError as error:
        raise InvalidError("body", str(error), "send one zstd stream") from error
    return shapes.BlobStored(sha256=digest, size_bytes=size)


def _decoded(body: BodyReader, encoding: str | None) -> BinaryIO:
    if encoding in {None, "identity"}:
        return cast("BinaryIO", body)
    if encoding != "zstd":
        raise InvalidError("Content-Encoding", encoding, "send zstd or identity")
    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    reader = decoder.stream_reader(cast("BinaryIO", body), read_across_frames=True)
    return cast("BinaryIO", reader)


@router.head("/blobs/{sha256}", include_in_schema=False)
@router.get("/blobs/{sha256}", response_class=FileResponse)
def get_blob(sha256: str, services: ServicesDep) -> FileResponse:
    """Return a blob's bytes; honours Range."""
    digest = digests.parse(sha256, "sha256")
    if not services.blobs.has(digest):
        raise NotFoundError("blob", digest)
    with services.store.local(key_of(digest)) as path:
        return FileResponse(
            path,
            media_type="application/octet-stream",
            headers={"Cache-Control": "private, immutable, max-age=31536000"},
        )


async def _exact_body(request: Request) -> bytes:
    """Return the body as it came: the digest of these bytes is the bundle's identity."""
    return await request.body()


_INDEX_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"type": "object", "description": "An index."}}},
}


@router.post("/models/{name}/versions", status_code=201, openapi_extra={"requestBody": _INDEX_BODY})
def register(
    *,
    name: str,
    index: Annotated[bytes, Depends(_exact_body)],
    response: Response,
    background: BackgroundTasks,
    services: ServicesDep,
    actor: ActorDep,
) -> shapes.Registered:
    """Register the bundle with this index (its exact bytes) as the next version of the model.

    200 and created=false if the newest version has the same content.
    """
    upload = models.receive(services.blobs, name, index)
    with services.transaction() as session:
        version, created = models.register(session, upload, actor=actor, now=services.clock.now())
        answer = _version(version, models.bundle(session, version.bundle))
    if created:
        background.add_task(_encode, services, list(upload.blobs))
    else:
        response.status_code = 200
    return shapes.Registered(**answer.model_dump(), created=created)


def _encode(services: Services, blobs: Iterable[Digest]) -> None:
    """Make what devices will ask for, so that the first one need not wait."""
    try:
        for blob in blobs:
            services.encodings.get(Recipe(blob, encodings.ZSTD))
    except PackhorseError as error:
        log.warning("encoding failed; it is tried again on demand", extra={"why": str(error)})


@router.get("/models")
def list_models(
    session: ReadSession, cursor: Cursor = None, limit: Limit = 50
) -> schema.Page[shapes.Model]:
    """Return models by name."""
    found = models.page(session, after=cursor or "", limit=limit)
    following = found[-1].name if len(found) == limit else None
    return schema.Page(items=[_model(session, each) for each in found], next=following)


@router.get("/models/{name}")
def get_model(name: str, session: ReadSession) -> shapes.Model:
    """Return one model."""
    return _model(session, models.summary(session, name))


@router.get("/models/{name}/versions")
def list_versions(
    name: str, session: ReadSession, cursor: Cursor = None, limit: Limit = 50
) -> schema.Page[shapes.Version]:
    """Return the versions of a model, oldest first."""
    after = _number(cursor)
    found = models.versions(session, name, after=after, limit=limit)
    following = str(found[-1].number) if len(found) == limit else None
    items = [_version(each, models.bundle(session, each.bundle)) for each in found]
    return schema.Page(items=items, next=following)


@router.get("/models/{name}/versions/{version}")
def get_version(name: str, version: str, session: ReadSession) -> shapes.Version:
    """Return a version by its number or "latest"."""
    found = models.version(session, name, version)
    return _version(found, models.bundle(session, found.bundle))


@router.get("/models/{name}/versions/{version}/index")
def get_index(name: str, version: str, session: ReadSession, services: ServicesDep) -> Response:
    """Return the index of a version: its exact bytes, whose SHA-256 is the bundle's identity."""
    found = models.version(session, name, version)
    content = services.blobs.bytes_of(Digest(found.bundle), limit_bytes=MAX_INDEX_BYTES)
    return Response(content, media_type="application/json", headers={"ETag": f'"{found.bundle}"'})


def _number(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit():
        raise InvalidError("cursor", cursor, "send the `next` of the page before")
    return int(cursor)


def _model(session: ReadSession, found: models.Summary) -> shapes.Model:
    bundle = models.bundle(session, found.latest.bundle)
    return shapes.Model(
        name=found.name, versions=found.versions, latest=_version(found.latest, bundle)
    )


def _version(version: tables.Version, bundle: tables.Bundle) -> shapes.Version:
    return shapes.Version(
        model=version.model,
        version=version.number,
        bundle=version.bundle,
        size_bytes=bundle.size_bytes,
        created_at=version.created_at,
        created_by=version.created_by,
        description=version.description,
        tags=version.tags,
    )
