"""What lies between two versions."""

from typing import Annotated

from fastapi import APIRouter, Query

from cloud import references, shapes
from cloud.api.dependencies import ServicesDep
from cloud.api.routes import MAX_NAME_CHARS, Route
from cloud.deltas.differ import Differ, Version
from cloud.registry import models
from runtime.digests import Digest

router = APIRouter(tags=["models"], route_class=Route)

To = Annotated[str, Query(max_length=MAX_NAME_CHARS, description="NAME:VERSION or NAME@ALIAS")]


@router.get("/models/{name}/versions/{version}/diff")
def get_diff(name: str, version: str, to: To, services: ServicesDep) -> shapes.Diff:
    """Return what lies between a version and another, and what the update costs devices.

    Files are read for it, for at most a minute; 422 if that is not enough.
    """
    other = references.parse(to, "to")
    with services.reading() as session:
        rows = [
            models.version(session, *each)
            for each in ((name, version), (other.name, other.version))
        ]
        old, new = (Version(f"{row.model}:{row.number}", Digest(row.bundle)) for row in rows)
    return Differ(services).run(old, new)
