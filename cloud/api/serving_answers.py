"""Services as the API shows them, and what requests ask of them."""

from typing import Any

from sqlmodel import Session

from cloud import shapes, tables
from cloud.api import errors
from cloud.hosting import gates, moves
from cloud.hosting.board import View
from cloud.hosting.state import Phase, Rollout, State
from cloud.hosting.strategies import Kind
from cloud.hosting.targets import (
    Condition,
    ObservedRevision,
    Place,
    Reason,
)
from cloud.registry.serving import keys, rows, services
from cloud.services import Services

REVISIONS = 50
REFUSED: dict[str, Any] = {
    "description": "The target refuses.",
    "content": {errors.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
REMOVING = "removing"


def service(session: Session, row: tables.Service, shared: Services) -> shapes.Service:
    """Return a service."""
    return shapes.Service(**_service(session, row, shared))


def detail(session: Session, row: tables.Service, shared: Services) -> shapes.ServiceDetail:
    """Return a service with its revisions, newest first."""
    state, view = rows.state(row), shared.board.view(row.name)
    now = shared.clock.now()
    found = list(reversed(rows.revisions(session, row)))[:REVISIONS]
    revisions = [_revision(each, state, view, now) for each in found]
    return shapes.ServiceDetail(**_service(session, row, shared), revisions=revisions)


def _service(session: Session, row: tables.Service, shared: Services) -> dict[str, Any]:
    state, view, now = rows.state(row), shared.board.view(row.name), shared.clock.now()
    observed = view.observed
    condition = REMOVING if row.deleted_at is not None else view.condition(now).value
    rollout = None if state.rollout is None else _rollout(state.rollout, view)
    return {
        "name": row.name,
        "target": _target(rows.place(row)),
        "place": rows.place_text(row),
        "condition": condition,
        "seen_at": view.seen_at,
        "trouble": view.trouble,
        "reasons": _reasons(observed.reasons) if observed else [],
        "endpoints": list(observed.endpoints) if observed else [],
        "traffic": moves.weights_text(state.traffic),
        "mirror": _name(state.mirror),
        "mirror_fraction": state.mirror_fraction,
        "stable": _name(state.stable),
        "previous": _name(state.previous),
        "current": f"r{services.current(session, row).number}",
        "rollout": rollout,
        "settled": _settled(state.rollout, condition, view, row.generation),
        "generation": row.generation,
        "in_force": observed.generation if observed else 0,
        "gateway": shapes.ServiceGateway.model_validate(row.gateway),
        "port": row.port,
        "bind": row.bind,
        "route": None if row.route is None else shapes.ServiceRoute.model_validate(row.route),
        "created_at": row.created_at,
        "created_by": row.created_by,
        "updated_at": row.updated_at,
        "deleted_at": row.deleted_at,
        "revision": row.revision,
    }


def _settled(rollout: Rollout | None, condition: str, view: View, generation: int) -> bool:
    """Say whether nothing more happens by itself: all is done, or somebody must say something."""
    if condition == REMOVING or (rollout is not None and rollout.back):
        return False
    if rollout is not None and rollout.phase is Phase.FAILED:
        return True
    done = rollout is None or rollout.phase in {Phase.SOAKING, Phase.HOLDING}
    told = view.observed is not None and view.observed.generation == generation
    return done and told and condition == Condition.READY.value


def _rollout(rollout: Rollout, view: View) -> shapes.ServiceRollout:
    steps = rollout.strategy.kind is Kind.CANARY and rollout.phase is Phase.STEPPING
    who = rollout.leaves if rollout.back else rollout.candidates
    return shapes.ServiceRollout(
        revisions=[f"r{number}" for number in who],
        goal=moves.weights_text(rollout.goal),
        strategy=rollout.strategy.kind.value,
        phase=rollout.phase.value,
        step=rollout.strategy.steps[rollout.step] if steps else None,
        began=rollout.began,
        since=rollout.since,
        back=rollout.back,
        reason=rollout.reason,
        waiting=_waiting(rollout, view),
    )


def _waiting(rollout: Rollout, view: View) -> str:
    """Return what it waits for: for a person's word, or what was seen last of it."""
    if rollout.phase is Phase.HOLDING:
        names = moves.names(rollout.candidates)
        return f"{names} waits for `packhorse services promote`"
    return view.waiting


def _revision(
    row: tables.ServiceRevision, state: State, view: View, now: float
) -> shapes.ServiceRevision:
    seen = _seen(view, row.number)
    known = view.condition(now) is not Condition.UNKNOWN
    condition = Condition.ABSENT if seen is None else seen.condition
    return shapes.ServiceRevision(
        name=f"r{row.number}",
        model=row.model,
        version=row.version,
        alias=row.alias,
        bundle=row.bundle,
        resources=shapes.ServiceResources.model_validate(row.resources),
        scale=shapes.ServiceScale.model_validate(row.scale),
        env=row.env,
        secrets=row.secret_names,
        node_selector=row.node_selector,
        base_image=row.base_image,
        image=row.image,
        created_at=row.created_at,
        created_by=row.created_by,
        failed_reason=row.failed_reason,
        weight=state.traffic.get(row.number, 0),
        running=row.number in state.wanted,
        condition=condition.value if known else Condition.UNKNOWN.value,
        wanted=0 if seen is None else seen.wanted,
        ready=0 if seen is None else seen.ready,
        reasons=[] if seen is None else _reasons(seen.reasons),
        traffic=_counted(view, f"r{row.number}"),
    )


def _seen(view: View, number: int) -> ObservedRevision | None:
    found = () if view.observed is None else view.observed.revisions
    return next((each for each in found if each.number == number), None)


def _counted(view: View, name: str) -> shapes.ServiceTraffic | None:
    told = [each for status in view.statuses for each in status.revisions if each.name == name]
    if not told:
        return None
    counts = gates.since_then({}, view.statuses, [name])
    return shapes.ServiceTraffic(
        requests=counts.requests,
        errors=counts.errors,
        p95_ms=counts.p95_ms,
        compared=sum(each.compared for each in told),
        different=sum(each.different for each in told),
    )


def _reasons(found: tuple[Reason, ...]) -> list[shapes.ServiceReason]:
    return [
        shapes.ServiceReason(
            code=each.code,
            text=each.text,
            replica=each.replica,
            exit_code=each.exit_code,
            last_log=list(each.last_log),
        )
        for each in found
    ]


def _target(found: Place) -> shapes.Target:
    return shapes.Target(**vars(found))


def _name(number: int | None) -> str | None:
    return None if number is None else f"r{number}"


def key(row: tables.ServiceKey) -> shapes.ServiceKey:
    """Return a key, without itself."""
    limit = keys.limit(row)
    return shapes.ServiceKey(
        name=row.name,
        limit=None if limit is None else shapes.KeyLimit(per_s=limit.per_s, burst=limit.burst),
        created_at=row.created_at,
        created_by=row.created_by,
    )


def run(row: tables.ServiceRun) -> shapes.ServiceRun:
    """Return what had traffic."""
    return shapes.ServiceRun(**{**row.model_dump(), "revision": f"r{row.revision}"})


def places(shared: Services) -> shapes.Places:
    """Return the places where services run."""
    found = [
        shapes.Place(
            target=_target(each),
            checked_at=view.checked_at,
            trouble=view.trouble,
            strays=list(view.strays),
        )
        for each, view in shared.board.places().items()
    ]
    return shapes.Places(items=sorted(found, key=lambda each: each.target.model_dump_json()))
