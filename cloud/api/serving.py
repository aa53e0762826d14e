"""Services: versions served on Docker and Kubernetes."""

from fastapi import APIRouter, Response

from cloud import schema, shapes
from cloud.api import serving_answers as answers
from cloud.api import serving_requests as requests
from cloud.api.dependencies import (
    ActorDep,
    Cursor,
    Limit,
    ReadSession,
    ServicesDep,
    WriteSession,
)
from cloud.api.preconditions import AnsweredDep, ShownDep, UnchangedDep
from cloud.api.routes import Route
from cloud.hosting.targets import Scale
from cloud.registry.serving import keys, removal, rows, services, specs, traffic

router = APIRouter(prefix="/services", tags=["services"], route_class=Route)


@router.post(
    "",
    status_code=201,
    responses={200: {"model": shapes.ServiceMade, "description": "It was there."}},
)
def create(
    *,
    body: shapes.NewService,
    session: WriteSession,
    shared: ServicesDep,
    actor: ActorDep,
    response: Response,
    answered: AnsweredDep,
) -> shapes.ServiceMade:
    """Have a service be like this. If it is so already, nothing changes (200).

    A new one gets a first key, unless everybody may ask. One that is there with another wish is
    refused (409), or with `update` changed.
    """
    wish, now = requests.spec(body), shared.clock.now()
    specs.check(wish, docker_hosts=shared.settings.docker_engines)
    made = services.declare(
        session, wish, update=body.update, sealer=shared.sealer, actor=actor, now=now
    )
    key = None
    if made.created and not wish.gateway.anonymous:
        key, _row = keys.add(session, made.service, keys.FIRST, None, actor=actor, now=now)
    response.status_code = 201 if made.created else 200
    answer = shapes.ServiceMade(
        service=answers.detail(session, made.service, shared),
        created=made.created,
        changed=list(made.changed),
        key=key,
    )
    return answered(answer, made.service.revision)


@router.get("")
def list_services(
    session: ReadSession, shared: ServicesDep, cursor: Cursor = None, limit: Limit = 50
) -> schema.Page[shapes.Service]:
    """Return services by name, those that are being removed among them."""
    found = rows.there(session, after=cursor or "", limit=limit)
    following = found[-1].name if len(found) == limit else None
    items = [answers.service(session, row, shared) for row in found]
    return schema.Page(items=items, next=following)


@router.get("/{service}")
def show(
    service: str, session: ReadSession, shared: ServicesDep, shown: ShownDep
) -> shapes.ServiceDetail:
    """Return a service, its revisions, and how they are."""
    row = rows.find(session, service) or rows.get(session, service)
    return shown(answers.detail(session, row, shared), row.revision)


@router.patch("/{service}")
def change(
    *,
    service: str,
    body: shapes.ServiceChanges,
    session: WriteSession,
    shared: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.ServiceMade:
    """Change what is given: what makes a revision makes a new one, which takes over."""
    row = rows.get(session, service)
    unchanged(row.revision)
    before = services.spec_of(
        session, row, sealer=shared.sealer, strategy=requests.strategy(body.strategy)
    )
    wish = requests.changed(before, body)
    specs.check(wish, docker_hosts=shared.settings.docker_engines)
    made = services.declare(
        session, wish, update=True, sealer=shared.sealer, actor=actor, now=shared.clock.now()
    )
    answer = shapes.ServiceMade(
        service=answers.detail(session, row, shared),
        created=False,
        changed=list(made.changed),
        key=None,
    )
    return answered(answer, row.revision)


@router.delete("/{service}")
def remove(
    *,
    service: str,
    session: WriteSession,
    shared: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    forget: bool = False,
) -> shapes.Service:
    """Remove a service and all that was made for it. Its name is free when that is done.

    With `forget`, the target is not waited for: what is left there stays.
    """
    row = rows.find(session, service) or rows.get(session, service)
    unchanged(row.revision)
    removal.delete(session, row, forget=forget, actor=actor, now=shared.clock.now())
    return answers.service(session, row, shared)


@router.post("/{service}/traffic")
def set_traffic(
    *,
    service: str,
    body: shapes.NewTraffic,
    session: WriteSession,
    shared: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.ServiceDetail:
    """Have these shares, as soon as all that get one are ready. Ends a take-over under way."""
    row = rows.get(session, service)
    unchanged(row.revision)
    weights = (
        None
        if body.weights is None
        else {rows.number(name, "weights"): each for name, each in body.weights.items()}
    )
    mirror = None if body.mirror in {None, "none"} else rows.number(str(body.mirror), "mirror")
    traffic.set_traffic(
        session,
        row,
        weights,
        mirror=mirror,
        mirror_fraction=body.mirror_fraction,
        unmirror=body.mirror == "none",
        actor=actor,
        now=shared.clock.now(),
    )
    return answered(answers.detail(session, row, shared), row.revision)


@router.post("/{service}/promote")
def promote(
    *,
    service: str,
    session: WriteSession,
    shared: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.ServiceDetail:
    """Give the newest revision that runs all the traffic."""
    row = rows.get(session, service)
    unchanged(row.revision)
    traffic.promote(session, row, actor=actor, now=shared.clock.now())
    return answered(answers.detail(session, row, shared), row.revision)


@router.post("/{service}/rollback")
def rollback(
    *,
    service: str,
    body: shapes.NewRollback | None = None,
    session: WriteSession,
    shared: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.ServiceDetail:
    """Go back to where the traffic was before, or to a revision."""
    row = rows.get(session, service)
    unchanged(row.revision)
    to = None if body is None or body.to is None else rows.number(body.to, "to")
    traffic.rollback(session, row, to, actor=actor, now=shared.clock.now())
    return answered(answers.detail(session, row, shared), row.revision)


@router.post("/{service}/scale")
def scale(
    *,
    service: str,
    body: shapes.NewScale,
    session: WriteSession,
    shared: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.ServiceDetail:
    """Have so many replicas: of a revision, or of all that run."""
    row = rows.get(session, service)
    unchanged(row.revision)
    traffic.scale(
        session,
        row,
        requests.plain(body.scale, Scale),
        number=None if body.revision is None else rows.number(body.revision),
        actor=actor,
        now=shared.clock.now(),
    )
    return answered(answers.detail(session, row, shared), row.revision)


@router.post("/{service}/keys", status_code=201)
def add_key(
    service: str,
    body: shapes.NewServiceKey,
    session: WriteSession,
    shared: ServicesDep,
    actor: ActorDep,
) -> shapes.ServiceKeyMade:
    """Make a key; it is shown this once."""
    row, now = rows.get(session, service), shared.clock.now()
    limit = requests.limit(body.limit)
    secret, made = keys.add(session, row, body.name, limit, actor=actor, now=now)
    return shapes.ServiceKeyMade(**answers.key(made).model_dump(), key=secret)


@router.get("/{service}/keys")
def list_keys(
    service: str, session: ReadSession, cursor: Cursor = None, limit: Limit = 200
) -> schema.Page[shapes.ServiceKey]:
    """Return the keys that work, by name."""
    row = rows.get(session, service)
    found = [each for each in keys.good(session, row.name) if each.name > (cursor or "")][:limit]
    following = found[-1].name if len(found) == limit else None
    return schema.Page(items=[answers.key(each) for each in found], next=following)


@router.delete("/{service}/keys/{key}", status_code=204)
def revoke_key(
    service: str, key: str, session: WriteSession, shared: ServicesDep, actor: ActorDep
) -> None:
    """Have a key work no more, as soon as the gateways know."""
    row = rows.get(session, service)
    keys.revoke(session, row, key, actor=actor, now=shared.clock.now())
