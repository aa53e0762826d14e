"""Garbage collection by hand; the registry does it by itself too."""

import dataclasses

from fastapi import APIRouter

from cloud import shapes
from cloud.api.dependencies import ActorDep, ServicesDep
from cloud.api.routes import Route
from cloud.storage.collect import Collector

router = APIRouter(tags=["blobs"], route_class=Route)


@router.post("/gc")
def collect(body: shapes.CollectGarbage, services: ServicesDep, actor: ActorDep) -> shapes.Garbage:
    """Delete the blobs that nothing refers to, and what was made of them; answered when done.

    With `dry_run`, only say what would be deleted now. 409 while another collection is under way.
    """
    found = Collector(services).run(actor=actor, dry_run=body.dry_run)
    return shapes.Garbage(dry_run=body.dry_run, **dataclasses.asdict(found))
