"""Large blobs in pieces: sent in any order, several at once, and again after a cut.

POST   /uploads                    begin, or find again what was begun: which parts are here
PUT    /uploads/{id}/parts/{n}     one part
POST   /uploads/{id}/complete      all parts are here: make the blob
DELETE /uploads/{id}               forget it
"""

from typing import Annotated

import zstandard
from fastapi import APIRouter, Header, Query, Request

from cloud import shapes
from cloud.api import bodies
from cloud.api.bodies import BodyReader, Bounded
from cloud.api.dependencies import ActorDep, ServicesDep
from cloud.api.routes import Route
from cloud.services import Services
from cloud.storage.uploads import Upload
from runtime import digests
from runtime.errors import InvalidError

router = APIRouter(prefix="/uploads", tags=["blobs"], route_class=Route)

_BODY = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}


@router.post("")
def begin(body: shapes.NewUpload, services: ServicesDep, actor: ActorDep) -> shapes.Upload:
    """Begin to upload a blob in parts. The same again by the same key goes on with what arrived.

    503 while there are too many; one for which nothing comes for a day is forgotten.
    """
    digest = digests.parse(body.sha256, "sha256")
    return _shape(services, services.uploads.begin(actor, digest, body.size_bytes))


@router.get("/{upload}")
def show(upload: str, services: ServicesDep, actor: ActorDep) -> shapes.Upload:
    """Return what has arrived of an upload."""
    return _shape(services, services.uploads.get(upload, actor))


@router.put("/{upload}/parts/{number}", status_code=204, openapi_extra={"requestBody": _BODY})
def put_part(
    *,
    upload: str,
    number: int,
    sha256: Annotated[str, Query(description="Of the part's bytes, before any encoding.")],
    request: Request,
    services: ServicesDep,
    actor: ActorDep,
    content_encoding: Annotated[str | None, Header()] = None,
) -> None:
    """Store a part, sent plain or with Content-Encoding: zstd; durable once answered."""
    digest = digests.parse(sha256, "sha256")
    found = services.uploads.get(upload, actor)
    body = BodyReader(request)
    content = Bounded(bodies.decoded(body, content_encoding), found.size_of(number))
    try:
        services.uploads.put_part(found, number, content, digest)
    except zstandard.ZstdError as error:
        raise InvalidError("body", str(error), "send one zstd stream") from error
    body.drain()


@router.post("/{upload}/complete")
def complete(upload: str, services: ServicesDep, actor: ActorDep) -> shapes.BlobStored:
    """Check all parts together and store the blob; the upload is over then.

    404 if it is over already: a HEAD of the blob tells how that ended.
    """
    found = services.uploads.get(upload, actor)
    before = services.presence.deletions()
    size = services.presence.find(found.sha256)
    if size is None:
        size = services.uploads.complete(found)
        services.presence.stored(found.sha256, size, before=before)
    services.uploads.abort(found)
    return shapes.BlobStored(sha256=found.sha256, size_bytes=size)


@router.delete("/{upload}", status_code=204)
def abort(upload: str, services: ServicesDep, actor: ActorDep) -> None:
    """Forget an upload and what has arrived of it."""
    services.uploads.abort(services.uploads.get(upload, actor))


def _shape(services: Services, upload: Upload) -> shapes.Upload:
    return shapes.Upload(
        id=upload.id,
        sha256=upload.sha256,
        size_bytes=upload.size_bytes,
        part_bytes=upload.part_bytes,
        parts=upload.parts,
        arrived=services.uploads.arrived(upload),
    )
