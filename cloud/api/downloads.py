"""What devices fetch: encoded blobs and their part tables, by URLs that carry their own right."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse

from cloud.api.dependencies import ServicesDep
from cloud.storage.encodings import Recipe
from cloud.trust import presign
from runtime import digests
from runtime.digests import Digest

router = APIRouter(prefix=presign.ROOT, tags=["downloads"])

HEADERS = {"Cache-Control": "private, immutable, max-age=31536000"}


def _signed(
    digest: str,
    e: Annotated[str, Query(max_length=20)],
    s: Annotated[str, Query(max_length=128)],
    request: Request,
    services: ServicesDep,
) -> Digest:
    """Return the blob that the URL names; 403 if the URL is not ours, or too old."""
    services.presigner.check(request.url.path, expiry=e, signature=s)
    return digests.parse(digest)


SignedBlob = Annotated[Digest, Depends(_signed)]


@router.head("/{encoding}/{digest}", include_in_schema=False)  # noqa: FAST003 - _signed takes it
@router.get("/{encoding}/{digest}", response_class=FileResponse)
def get_encoded(encoding: str, blob: SignedBlob, services: ServicesDep) -> FileResponse:
    """Return an encoded blob; honours Range."""
    found = services.encodings.get(Recipe(blob, encoding))
    with services.store.local(found.key) as path:
        return FileResponse(path, media_type="application/octet-stream", headers=HEADERS)


@router.get("/{encoding}/{digest}/parts")  # noqa: FAST003 - _signed takes it
def get_parts(encoding: str, blob: SignedBlob, services: ServicesDep) -> Response:
    """Return the part table of an encoded blob."""
    found = services.encodings.get(Recipe(blob, encoding))
    return Response(found.table_bytes, media_type="application/json", headers=HEADERS)
