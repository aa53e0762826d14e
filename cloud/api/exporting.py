"""Services as files: for clusters that the registry does not reach, or does not change."""

from fastapi import APIRouter

from cloud import references, shapes
from cloud.api import serving_requests as requests
from cloud.api.dependencies import ServicesDep
from cloud.api.routes import Route
from cloud.hosting import exporting, wishes
from cloud.hosting.exporting import Asked, Exported
from cloud.registry import models
from cloud.registry.serving import rows, specs
from runtime.errors import InvalidError

router = APIRouter(tags=["services"], route_class=Route)


@router.post("/services/{service}/export")
def export(service: str, body: shapes.ExportWish, services: ServicesDep) -> shapes.ServiceExport:
    """Return a service as it is as manifests, or as a KServe InferenceService.

    No cluster is asked. While images are built the answer has no files: ask again.
    """
    with services.reading() as session:
        rows.get(session, service)
        found = wishes.snapshot(session, service)
    assert found is not None, "rows.get found it"
    return _answer(exporting.of_service(services, found, _asked(body)))


@router.post("/exports")
def export_new(body: shapes.NewExport, services: ServicesDep) -> shapes.ServiceExport:
    """Return a service that the registry shall not run as files; nothing is kept of it."""
    spec = requests.spec(body.service)
    if spec.place.kind != specs.KUBERNETES:
        raise InvalidError("target.kind", spec.place.kind, "only kubernetes is exported to")
    specs.check(spec, docker_hosts={})
    with services.reading() as session:
        wanted = spec.revision.version or references.LATEST
        version = models.version(session, spec.revision.model, wanted)
        session.expunge(version)
    return _answer(exporting.of_spec(services, spec, version, _asked(body)))


def _asked(body: shapes.ExportWish) -> Asked:
    for field in ("image", "gateway_image"):
        given = getattr(body, field)
        if given is not None:
            specs.check_image(field, given)
    return Asked(body.flavour, body.image, body.gateway_image, body.secrets)


def _answer(made: Exported) -> shapes.ServiceExport:
    return shapes.ServiceExport(
        waiting=made.waiting,
        files={name: data.decode() for name, data in made.files.items()},
        left_out=list(made.left_out),
        key=made.key,
    )
