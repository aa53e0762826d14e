"""What a document would do, before anything moves."""

from collections import Counter
from collections.abc import Sequence

from sqlmodel import Session, col, select

from cloud import shapes, tables
from cloud.registry import desired, explain, models, selectors
from cloud.registry.deployments import Wish
from cloud.registry.intents import Intent
from cloud.rollouts import documents, reasons, sights
from cloud.rollouts.costs import Costs
from cloud.rollouts.forecast import DEVICE_S, Forecast, forecast
from cloud.rollouts.sights import Subject
from cloud.rollouts.state import Member, Rollout, Scene, Sight
from cloud.services import Services
from runtime.digests import Digest
from runtime.messages import ModuleSpec

MOST_OBSTACLES = 200
_FIRST = 2**62
"""As if the plan's deployments were newer than all others."""


def plan(session: Session, services: Services, document: shapes.DeploymentDocument) -> shapes.Plan:
    """Return the plan; raises InvalidError or NotFoundError for what no rollout could follow."""
    documents.check(document)
    now, lease_s = services.clock.now(), services.settings.lease_s
    wishes = [(wish, _version(session, wish)) for wish in documents.wishes(document)]
    found = _devices(session, document.target)
    about = _subject(session, document, wishes, found)
    seen = {
        device.id: sights.sight(about, device, generation, lease_s=lease_s, now=now)
        for device, generation in found
    }
    planned, obstacles = [], _of_sights(seen)
    rows = [device for device, _generation in found]
    for wish, version in wishes:
        module, misfits = _module(session, services, wish, version, rows)
        planned.append(module)
        obstacles += misfits
    obstacles += _starved(about.rollout, seen, now)
    guess = forecast(about.rollout.strategy, seen, now)
    return shapes.Plan(
        name=document.name,
        devices=len(found),
        by_presence=_presences(rows, lease_s, now),
        waves=list(guess.waves),
        modules=planned,
        obstacles=obstacles[:MOST_OBSTACLES],
        expected_s=guess.seconds,
        expected=_expected(guess, len(found)),
    )


def _version(session: Session, wish: Wish) -> tables.Version:
    return models.version(session, wish.model, str(wish.version))


def _devices(session: Session, target: str) -> Sequence[tuple[tables.Device, int | None]]:
    wanted = selectors.parse(target)
    query = (
        select(tables.Device, tables.Desired.generation)
        .join(tables.Desired, col(tables.Desired.device) == col(tables.Device.id), isouter=True)
        .where(col(tables.Device.revoked_at).is_(None))
        .order_by(col(tables.Device.id))
    )
    return [
        (device, generation)
        for device, generation in session.exec(query)
        if wanted.matches(desired.target(device).attributes)
    ]


def _subject(
    session: Session,
    document: shapes.DeploymentDocument,
    wishes: Sequence[tuple[Wish, tables.Version]],
    found: Sequence[tuple[tables.Device, int | None]],
) -> Subject:
    own = tuple(
        Intent(
            sequence=_FIRST,
            selector=document.target,
            spec=ModuleSpec(
                name=wish.module or wish.model,
                bundle=Digest(version.bundle),
                model=version.model,
                version=version.number,
                deployment="plan",
            ),
            priority=document.priority,
            line=document.name,
            admitted={},
        )
        for wish, version in wishes
    )
    members = {device.id: Member() for device, _generation in found}
    rollout = Rollout("plan", documents.strategy(document), members=members)
    rivals = sights.rivals_of(own, desired.active(session))
    return Subject(rollout, document.target, own, rivals)


def _module(
    session: Session,
    services: Services,
    wish: Wish,
    version: tables.Version,
    found: Sequence[tables.Device],
) -> tuple[shapes.PlannedModule, list[shapes.Obstacle]]:
    module = wish.module or wish.model
    cost = Costs(session, services.blobs, version.bundle).of(module, found)
    planned = shapes.PlannedModule(
        module=module,
        model=version.model,
        version=version.number,
        bundle=version.bundle,
        bytes_by_encoding=dict(sorted(cost.bytes_by_encoding.items())),
        fetching=cost.fetching,
        disk_bytes=cost.disk_bytes,
    )
    obstacles = [
        shapes.Obstacle(kind=kind, device=device, text=text) for kind, device, text in cost.misfits
    ]
    return planned, obstacles


def _of_sights(seen: dict[str, Sight]) -> list[shapes.Obstacle]:
    found = []
    for device, sight in seen.items():
        if sight.obstacle:
            found.append(shapes.Obstacle(kind="conflict", device=device, text=sight.obstacle))
        if sight.superseded:
            found.append(shapes.Obstacle(kind="superseded", device=device, text=sight.superseded))
        if not sight.heard:
            text = "not heard of: it gets this when it is"
            found.append(shapes.Obstacle(kind="offline", device=device, text=text))
    return found


def _starved(rollout: Rollout, seen: dict[str, Sight], now: float) -> list[shapes.Obstacle]:
    able = [device for device, sight in seen.items() if sight.heard]
    texts = reasons.starved(rollout, Scene(seen), able, now)
    return [shapes.Obstacle(kind="budget", device="", text=text) for text in texts]


def _presences(found: Sequence[tables.Device], lease_s: float, now: float) -> dict[str, int]:
    return dict(
        Counter(
            explain.presence(
                online=each.online,
                last_seen=each.last_seen,
                lease_s=each.lease_s or lease_s,
                now=now,
            ).value
            for each in found
        )
    )


def _expected(guess: Forecast, devices: int) -> str:
    if not devices:
        return "no device matches: it waits for the first"
    parts = [f"{DEVICE_S:g} s for each device, as many at once as waves and budget allow"]
    if guess.approvals:
        parts.append(f"{guess.approvals} approvals, taken as given at once")
    if guess.waited:
        parts.append("windows waited for")
    if guess.seconds is None:
        parts.append("it does not end by itself as things are: see the obstacles")
    return "; ".join(parts)
