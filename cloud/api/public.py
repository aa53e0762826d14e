"""What needs no key: the CA certificate, enrolment by token, and whether the registry is well."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from sqlmodel import select

from cloud import shapes
from cloud.api.dependencies import ServicesDep
from cloud.registry import enrolment

router = APIRouter(tags=["open"])


class PemResponse(PlainTextResponse):
    """A certificate."""

    media_type = "application/x-pem-file"


@router.get("/api/v1/ca", response_class=PemResponse)
def get_ca(services: ServicesDep) -> PemResponse:
    """Return the CA certificate; who fetches it checks its fingerprint."""
    return PemResponse(services.authority.ca_pem)


@router.post("/api/v1/enrol", status_code=201)
def enrol(body: shapes.Enrol, request: Request, services: ServicesDep) -> shapes.Enrolled:
    """Let a device in: 401 token unknown, 409 token used, 410 token expired.

    Answered after the broker has been told, so that the device can connect at once. Asked
    again with the same token and key, the answer is the same.
    """
    with services.transaction() as session:
        enrolled = enrolment.enrol(
            session,
            services.authority,
            token=body.token,
            csr=body.csr,
            device_id=body.device_id,
            facts=body.facts,
            now=services.clock.now(),
        )
    host = services.broker.host or request.url.hostname or services.settings.host
    return shapes.Enrolled(
        device=enrolled.device,
        certificate=enrolled.certificate,
        ca=services.authority.ca_pem,
        broker=shapes.BrokerAddress(host=host, port=services.broker.port),
        registry_url=services.settings.public_url or str(request.base_url).rstrip("/"),
        certificate_not_after=enrolled.not_after,
    )


@router.get("/healthz")
def health(services: ServicesDep) -> Response:
    """Say whether the database answers and every thread does its duty; 503 if not."""
    with services.reading() as session:
        session.exec(select(1)).one()
    duties = dict(services.duties())
    well = all(duties.values())
    answer = shapes.Health(status="ok" if well else "failing", duties=duties)
    return JSONResponse(answer.model_dump(), 200 if well else 503)
