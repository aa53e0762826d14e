"""What the gateway says of itself, on a port of its own that is never published.

GET /-/live     200 while the process works
GET /-/ready    200 once a configuration is in force, 503 while it drains
GET /-/status   runtime.gateway.config.Status
GET /metrics    Prometheus
"""

import http
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web

from runtime.gateway.config import Status


@dataclass(frozen=True)
class Admin:
    """The handler of the admin port."""

    status: Callable[[], Status]
    ready: Callable[[], bool]
    metrics: Callable[[], tuple[bytes, str]]
    """Returns a page and its content type."""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.method not in {"GET", "HEAD"}:
            return _json(http.HTTPStatus.METHOD_NOT_ALLOWED, {"error": "use GET"})
        match request.raw_path.partition("?")[0]:
            case "/-/live":
                return _json(http.HTTPStatus.OK, {"live": True})
            case "/-/ready":
                ready = self.ready()
                status = http.HTTPStatus.OK if ready else http.HTTPStatus.SERVICE_UNAVAILABLE
                return _json(status, {"ready": ready})
            case "/-/status":
                return _json(http.HTTPStatus.OK, self.status())
            case "/metrics":
                page, kind = self.metrics()
                return web.Response(body=page, headers={"Content-Type": kind})
            case _:
                told = "use /-/live, /-/ready, /-/status or /metrics"
                return _json(http.HTTPStatus.NOT_FOUND, {"error": told})


def _json(status: http.HTTPStatus, value: object) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(value), content_type="application/json"
    )
