"""Blobs in and out, one request each. Large ones come in pieces: see cloud.api.uploads."""

from typing import Annotated, Any

import zstandard
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from cloud import shapes
from cloud.api import bodies, ranges
from cloud.api.bodies import BodyReader, Bounded
from cloud.api.dependencies import ServicesDep
from cloud.api.routes import Route
from cloud.errors import NotFoundError
from cloud.storage.blobs import key_of
from runtime import digests
from runtime.errors import InvalidError

router = APIRouter(tags=["blobs"], route_class=Route)

_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_BODY = {"required": True, "content": {ranges.MEDIA_TYPE: _BYTES}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole blob", "content": {ranges.MEDIA_TYPE: _BYTES}},
    206: {"description": "The range that was asked for", "content": {ranges.MEDIA_TYPE: _BYTES}},
    307: {"description": "Location: a URL of the store itself, which needs no key and expires"},
    416: {"description": "The range begins beyond the end"},
}


@router.put("/blobs/{sha256}", openapi_extra={"requestBody": _BODY})
def put_blob(
    sha256: str,
    request: Request,
    services: ServicesDep,
    content_encoding: Annotated[str | None, Header()] = None,
) -> shapes.BlobStored:
    """Store a blob, sent plain or with Content-Encoding: zstd. Doing it again changes nothing."""
    digest = digests.parse(sha256, "sha256")
    body, before = BodyReader(request), services.presence.deletions()
    size = services.presence.find(digest)
    if size is not None:
        body.drain()
        return shapes.BlobStored(sha256=digest, size_bytes=size)
    limit = services.settings.max_blob_bytes
    try:
        content = Bounded(bodies.decoded(body, content_encoding), limit)
        size = services.blobs.put_stream(digest, content, limit_bytes=limit)
    except zstandard.ZstdError as error:
        raise InvalidError("body", str(error), "send one zstd stream") from error
    services.presence.stored(digest, size, before=before)
    return shapes.BlobStored(sha256=digest, size_bytes=size)


@router.head("/blobs/{sha256}", include_in_schema=False)
@router.get("/blobs/{sha256}", response_class=StreamingResponse, responses=_ANSWERS)
def get_blob(
    sha256: str,
    request: Request,
    services: ServicesDep,
    direct: Annotated[bool, Query(description="False: never redirect to the store.")] = True,  # noqa: FBT002 - a query
) -> Response:
    """Return a blob's bytes, or where to get them; honours Range.

    A HEAD that finds it keeps it from garbage collection for a while: time to register it.
    """
    digest = digests.parse(sha256, "sha256")
    asking = request.method == "HEAD"
    size = services.presence.find(digest) if asking else services.blobs.find(digest)
    if size is None:
        raise NotFoundError("blob", digest)
    if direct and not asking:
        url = services.store.url(key_of(digest), ttl_s=services.settings.presign_ttl_s)
        if url is not None:
            return RedirectResponse(url, 307, {"Cache-Control": "no-store"})
    return ranges.answer(services.store, key_of(digest), size, digest, request)
