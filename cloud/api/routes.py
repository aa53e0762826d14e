"""What every route with a key does beside its own work: bodies and answers of a known kind, and
POSTs that may be sent again (cloud.api.idempotency).

A router takes part with `APIRouter(route_class=Route)`; a test walks them all.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.datastructures import DefaultPlaceholder
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from cloud.api import idempotency
from cloud.errors import NotAcceptableError, UnsupportedMediaError
from runtime.errors import InvalidError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
JSON = "application/json"
MAX_NAME_CHARS = 256
"""Of what stands in a path."""
_BODY = frozenset({"POST", "PUT", "PATCH"})


class Route(APIRoute):
    """A route of the API."""

    def get_route_handler(self) -> Handler:
        """Return what answers a request."""
        original = super().get_route_handler()
        reads_json = self.body_field is not None
        offered = _offered(self)

        async def handle(request: Request) -> Response:
            _require_short(request)
            _require_accepted(request, offered)
            if reads_json and request.method in _BODY:
                _require_json(request)
            if request.method == "POST":
                return await idempotency.once(request, original)
            return await original(request)

        return handle


def _offered(route: APIRoute) -> frozenset[str]:
    """Return the media types of a route's good answers; empty: not known."""
    kind = route.response_class
    if not isinstance(kind, DefaultPlaceholder) and not issubclass(kind, JSONResponse):
        return frozenset()
    if isinstance(kind, DefaultPlaceholder) and route.response_field is None:
        return frozenset()
    listed = route.responses.get(route.status_code or 200, {}).get("content", {})
    return frozenset({JSON, *listed})


def accepts(header: str | None, media_type: str) -> bool:
    """Say whether an Accept header allows a media type; none allows all."""
    if header is None or not header.strip():
        return True
    main = media_type.partition("/")[0]
    allowed = {"*/*", "*", f"{main}/*", media_type, "application/problem+json"}
    for part in header.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if kind in allowed and not any(_is_zero(each) for each in parameters):
            return True
    return False


def _is_zero(parameter: str) -> bool:
    """Say whether a parameter is q=0: "not this"."""
    name, _equals, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().strip("0.") == "" and value.strip() != ""


def _require_short(request: Request) -> None:
    for name, value in request.path_params.items():
        if len(str(value)) > MAX_NAME_CHARS:
            raise InvalidError(name, value, f"use at most {MAX_NAME_CHARS} characters")


def _require_accepted(request: Request, offered: frozenset[str]) -> None:
    header = request.headers.get("accept")
    if offered and not any(accepts(header, each) for each in offered):
        raise NotAcceptableError(f"Accept: {', '.join(sorted(offered))} is what there is")


def _require_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = request.headers.get("content-length", "0")
    empty = length == "0" and "transfer-encoding" not in request.headers
    if (
        not empty
        and kind != JSON
        and not (kind.startswith("application/") and kind.endswith("+json"))
    ):
        raise UnsupportedMediaError(f"Content-Type: send {JSON}")
