"""The registry's HTTP application: routes, keys, problems, limits."""

import functools
import importlib.metadata
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.routing import BaseRoute

from cloud.api import (
    aliases,
    blobs,
    commands,
    dependencies,
    deployments,
    devices,
    diffs,
    downloads,
    errors,
    events,
    exporting,
    garbage,
    history,
    imagelogins,
    keys,
    models,
    public,
    rollouts,
    serving,
    serving_watching,
    telemetry,
    uploads,
    versions,
    webhooks,
)
from cloud.api.idempotency import InFlight
from cloud.api.limits import BodyLimit
from cloud.api.linestreams import LineStreams
from cloud.api.openapi import DocumentedAPI
from cloud.api.streams import Streams
from cloud.services import Services
from cloud.storage.uploads import MAX_PARTS, PART_BYTES
from runtime.bundle.index import MAX_INDEX_BYTES

__all__ = ["Services", "create_app"]

PREFIX = "/api/v1"
MAX_OVERHEAD_BYTES = 2 << 20
"""By which a compressed part may be larger than a plain one, and one part than a thousandth."""


def create_app(services: Services) -> FastAPI:
    """Return the application on these collaborators."""
    # The schema tells nothing secret, but only who has a key needs it: see /api/v1/openapi.json.
    # The interactive pages load scripts from elsewhere, which an edge site may not reach.
    app = DocumentedAPI(
        title="Packhorse registry",
        version=importlib.metadata.version("packhorse"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.streams = Streams(services)
    app.state.lines = LineStreams(services)
    app.state.in_flight = InFlight()
    app.state.followers = commands.Followers()
    errors.install(app)
    app.router.routes.extend(_routes())
    app.add_middleware(BodyLimit, limit_of=_limits(services))
    return app


@functools.cache
def _routes() -> tuple[BaseRoute, ...]:
    """Return all routes: the same for each application, and FastAPI takes 0.3 s to make them."""
    router = APIRouter()
    router.include_router(public.router)
    router.include_router(downloads.router)
    router.include_router(_guarded())
    return tuple(router.routes)


def _guarded() -> APIRouter:
    """Return every route that wants a key."""
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(dependencies.actor)])
    for module in (
        models,
        versions,
        diffs,
        aliases,
        blobs,
        uploads,
        garbage,
        devices,
        commands,
        keys,
        deployments,
        rollouts,
        serving,
        serving_watching,
        exporting,
        telemetry,
        events,
        history,
        webhooks,
        imagelogins,
    ):
        router.include_router(module.router)

    @router.get("/openapi.json", include_in_schema=False)
    def schema(request: Request) -> dict[str, Any]:
        described: dict[str, Any] = request.app.openapi()
        return described

    return router


def _limits(services: Services) -> Callable[[str], int]:
    settings = services.settings

    def limit_of(path: str) -> int:
        if path.startswith(f"{PREFIX}/blobs/"):
            return settings.max_blob_bytes
        if path.startswith(f"{PREFIX}/uploads/"):
            return max(PART_BYTES, settings.max_blob_bytes // MAX_PARTS) + MAX_OVERHEAD_BYTES
        if path.startswith(f"{PREFIX}/models/"):
            return MAX_INDEX_BYTES
        return settings.max_body_bytes

    return limit_of
