"""What a document would do, before anything moves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from cloud import shapes, tables
from cloud.registry import candidates, desired, explain, models, selectors
from cloud.registry.deployments import Wish
from cloud.registry.intents import Intent
from cloud.rollouts import documents, hindrances, measuring, sights
from cloud.rollouts.costs import Cost, Costs
from cloud.rollouts.forecast import Forecast, Need, forecast
from cloud.rollouts.measuring import Measured
from cloud.rollouts.sights import Subject
from cloud.rollouts.state import Member, Rollout, Sight
from cloud.services import Services
from runtime.digests import Digest
from runtime.messages import ModuleSpec

MOST_OBSTACLES = 200
_FIRST = 2**62
"""As if the plan's deployments were newer than all others."""


@dataclass(frozen=True)
class _Part:
    """A bundle that a document would bring: a module's, or that of its candidate."""

    wish: Wish
    module: str
    version: tables.Version


def plan(session: Session, services: Services, document: shapes.DeploymentDocument) -> shapes.Plan:
    """Return the plan; raises InvalidError or NotFoundError for what no rollout could follow."""
    now, lease_s = services.clock.now(), services.settings.lease_s
    documents.check(document, now=now)
    parts = _parts(session, document)
    found = _devices(session, document.target)
    about = _subject(document, parts, found, desired.active(session))
    seen = {
        device.id: sights.sight(about, device, generation, lease_s=lease_s, now=now)
        for device, generation in found
    }
    rows = [device for device, _generation in found]
    costs = [_cost(session, services, part, rows) for part in parts]
    known = measuring.measured(session, set(seen), now)
    guess = forecast(about.rollout.strategy, seen, _needs(known, costs, seen), now)
    obstacles = [
        *hindrances.of_target(session, document.target, seen),
        *hindrances.of_sights(seen),
        *hindrances.of_waves(about.rollout.strategy, seen, guess),
        *(each for cost in costs for each in hindrances.of_cost(cost)),
        *hindrances.of_budget(about.rollout, seen, now),
    ]
    return shapes.Plan(
        name=document.name,
        devices=len(found),
        by_presence=_presences(rows, lease_s, now),
        waves=list(guess.waves),
        modules=[_planned(*each) for each in zip(parts, costs, strict=True)],
        obstacles=obstacles[:MOST_OBSTACLES],
        expected_s=guess.seconds,
        expected=_expected(guess, known.said(now), len(found)),
    )


def _parts(session: Session, document: shapes.DeploymentDocument) -> list[_Part]:
    """Return what would be brought, each module with its candidate behind it."""
    found = []
    for wish in documents.wishes(document):
        version = models.version(session, wish.model, str(wish.version))
        module = wish.module or wish.model
        found.append(_Part(wish, module, version))
        field = f"modules.{module}.{candidates.FIELD}"
        candidate = candidates.resolve(session, wish.candidate, version, field)
        if candidate is not None:
            beside = models.version(session, candidate.model, candidate.version)
            found.append(_Part(wish, f"{module} {candidates.FIELD}", beside))
    return found


def _cost(
    session: Session, services: Services, part: _Part, found: Sequence[tables.Device]
) -> Cost:
    costs = Costs(session, services.blobs, part.version.bundle)
    return costs.of(part.module, found, part.wish.download)


def _needs(known: Measured, costs: Sequence[Cost], seen: Mapping[str, Sight]) -> dict[str, Need]:
    """Return what each device is taken to need."""
    counts = {device: sum(cost.bytes_of[device] for cost in costs) for device in seen}
    return {
        device: Need(seconds, downloads=counts[device] > 0)
        for device, seconds in known.estimates(counts).items()
    }


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
    document: shapes.DeploymentDocument,
    parts: Sequence[_Part],
    found: Sequence[tuple[tables.Device, int | None]],
    wishes: Sequence[Intent],
) -> Subject:
    own = tuple(
        Intent(
            sequence=_FIRST,
            selector=document.target,
            spec=ModuleSpec(
                name=part.module,
                bundle=Digest(part.version.bundle),
                model=part.version.model,
                version=part.version.number,
                deployment="plan",
            ),
            priority=document.priority,
            line=document.name,
            admitted={},
        )
        for part in parts
        if part.module == (part.wish.module or part.wish.model)
    )
    members = {device.id: Member() for device, _generation in found}
    rollout = Rollout("plan", documents.strategy(document), members=members)
    return Subject(rollout, document.target, own, sights.rivals_of(own, wishes))


def _planned(part: _Part, cost: Cost) -> shapes.PlannedModule:
    return shapes.PlannedModule(
        module=part.module,
        model=part.version.model,
        version=part.version.number,
        bundle=part.version.bundle,
        bytes_by_encoding=dict(sorted(cost.bytes_by_encoding.items())),
        fetching=cost.fetching,
        disk_bytes=cost.disk_bytes,
    )


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


def _expected(guess: Forecast, measured: str, devices: int) -> str:
    if not devices:
        return "no device matches: it waits for the first"
    parts = [measured, "as many at once as waves and budget allow"]
    if guess.approvals:
        parts.append(f"{guess.approvals} approvals, taken as given at once")
    if guess.waited:
        parts.append("windows waited for")
    if guess.seconds is None:
        parts.append("it does not end by itself as things are: see the obstacles")
    return "; ".join(parts)
