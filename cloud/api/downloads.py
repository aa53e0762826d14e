"""What devices fetch: encoded blobs and their part tables, by URLs that carry their own right."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from cloud.api import ranges
from cloud.api.dependencies import ServicesDep
from cloud.errors import UrlExpiredError
from cloud.storage.encodings import EncodedBlob, Recipe
from cloud.trust import presign
from runtime import digests

router = APIRouter(prefix=presign.ROOT, tags=["downloads"])

HEADERS = {"Cache-Control": ranges.IMMUTABLE}


def _signed(  # noqa: PLR0917 - FastAPI names each
    encoding: str,
    digest: str,
    e: Annotated[str, Query(max_length=20)],
    s: Annotated[str, Query(max_length=128)],
    request: Request,
    services: ServicesDep,
    base: Annotated[str | None, Query(max_length=64)] = None,
) -> EncodedBlob:
    """Return what the URL names; 403 if the URL is not ours, or too old, or it is gone by now.

    A whole blob is made again if it is lost; a delta is not: the device asks for another offer.
    """
    services.presigner.check(request.url.path, expiry=e, signature=s, base=base)
    blob = digests.parse(digest)
    if base is None:
        return services.encodings.get(Recipe(blob, encoding))
    found = services.encodings.ready(Recipe(blob, encoding, digests.parse(base, "base")))
    if found is None:
        raise UrlExpiredError("url: what it names is not kept any more: ask for a new one")
    return found


Signed = Annotated[EncodedBlob, Depends(_signed)]


@router.head("/{encoding}/{digest}", include_in_schema=False)  # noqa: FAST003 - _signed takes them
@router.get("/{encoding}/{digest}", response_class=StreamingResponse)
def get_encoded(found: Signed, request: Request, services: ServicesDep) -> Response:
    """Return an encoded blob; honours Range."""
    # The table names every byte: the same blob encoded by another version is another content.
    size, tag = found.table.encoded_size, found.table_sha256
    return ranges.answer(services.store, found.key, size, tag, request)


@router.get("/{encoding}/{digest}/parts")  # noqa: FAST003 - as above
def get_parts(found: Signed) -> Response:
    """Return the part table of an encoded blob."""
    return Response(found.table_bytes, media_type="application/json", headers=HEADERS)
