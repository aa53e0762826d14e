"""Objects as answers, whole or a part of them (RFC 9110, section 14), whatever store keeps them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from cloud.storage.objects import ObjectStore

MEDIA_TYPE = "application/octet-stream"
IMMUTABLE = "private, immutable, max-age=31536000"
_BYTES = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True)
class Part:
    """Bytes from `start` up to `stop`, of `size`."""

    start: int
    stop: int
    size: int


def answer(store: ObjectStore, key: str, size: int, tag: str, request: Request) -> Response:
    """Return an object of that size, or the part of it that the request asks for.

    `tag` names its content. One range is honoured, several are answered with the whole.
    """
    headers = {"Accept-Ranges": "bytes", "Cache-Control": IMMUTABLE, "ETag": f'"{tag}"'}
    part = asked(request.headers, size, headers["ETag"])
    start, stop = (0, size) if part is None else (part.start, part.stop)
    headers["Content-Length"] = str(stop - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(None, status, headers, MEDIA_TYPE)
    return StreamingResponse(_content(store, key, start, stop), status, headers, MEDIA_TYPE)


def asked(headers: Mapping[str, str], size: int, etag: str) -> Part | None:
    """Return the part that is asked for; None: the whole. Raises 416 for one beyond the end."""
    found = _BYTES.fullmatch(headers.get("range", "").replace(" ", ""))
    if found is None or found[1] == found[2] == "" or headers.get("if-range", etag) != etag:
        return None
    if found[1]:
        start = int(found[1])
        stop = min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None  # not a range at all
    else:
        start, stop = max(0, size - int(found[2])), size
    if start >= stop:
        raise HTTPException(
            416, f"range: there are {size} bytes", {"Content-Range": f"bytes */{size}"}
        )
    return Part(start, stop, size)


def _content(store: ObjectStore, key: str, start: int, stop: int) -> Iterator[bytes]:
    if start < stop:
        yield from store.read(key, start, stop)
