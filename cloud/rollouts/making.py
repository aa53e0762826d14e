"""Rollouts begin: by a document, by an alias that moved, or by going back to an earlier one."""

import msgspec
from sqlmodel import Session, col, select

from cloud import references, shapes, tables
from cloud.errors import ConflictError
from cloud.registry import (
    candidates,
    deployments,
    desired,
    downloads,
    events,
    models,
    selectors,
)
from cloud.registry.deployments import Wish
from cloud.registry.intents import Target
from cloud.rollouts import documents, orders, rows, state, troubles
from cloud.rollouts.state import State, Step
from runtime.candidates import Candidate
from runtime.errors import InvalidError, PackhorseError


def create(
    session: Session,
    document: shapes.DeploymentDocument,
    *,
    actor: str,
    now: float,
    origin: str = "",
) -> tables.Rollout:
    """Make a rollout, and end the one before of the same name; nothing moves yet.

    Raises InvalidError or NotFoundError for a document that cannot be followed.
    """
    documents.check(document, now=now)
    plan = documents.strategy(document)
    row = tables.Rollout(
        id=deployments.new_id("rol"),
        name=document.name,
        document=document.model_dump(mode="json"),
        state=State.RUNNING.value,
        step=(Step.APPROVAL if plan.waves[0].approve else Step.OPEN).value,
        wave_at=now,
        since=now,
        approvals=[],
        origin=origin,
        created_at=now,
        created_by=actor,
    )
    session.add(row)
    session.flush()
    made = [_module(session, row, wish, document) for wish in documents.wishes(document)]
    session.flush()
    rows.join(session, row.id, matching(session, document.target), now=now)
    _tell(session, row, made)
    _supersede(session, row, now=now)
    return row


def _tell(session: Session, row: tables.Rollout, made: list[tables.Deployment]) -> None:
    data = {
        "name": row.name,
        "target": row.document["target"],
        "modules": {each.module: f"{each.model}:{each.version}" for each in made},
        "deployments": [each.id for each in made],
        "origin": row.origin,
    }
    kind, at = "rollout.created", row.created_at
    events.add(session, at=at, actor=row.created_by, kind=kind, subject=row.id, data=data)


def _module(
    session: Session,
    row: tables.Rollout,
    wish: Wish,
    document: shapes.DeploymentDocument,
) -> tables.Deployment:
    named = str(wish.version)
    version = models.version(session, wish.model, named)
    candidate = _candidate(session, row, wish, version)
    alias = named if named != references.LATEST and references.number(named) is None else None
    made = tables.Deployment(
        id=deployments.new_id("dep"),
        name=document.name,
        model=version.model,
        version=version.number,
        alias=alias,
        bundle=version.bundle,
        module=wish.module or wish.model,
        selector=document.target,
        sources=None if wish.sources is None else list(wish.sources),
        capture=downloads.written(msgspec.to_builtins(wish.capture), wish.download),
        soak_s=wish.soak_s,
        candidate=None if candidate is None else msgspec.to_builtins(candidate),
        created_at=row.created_at,
        created_by=row.created_by,
        rollout=row.id,
        priority=document.priority,
    )
    session.add(made)
    return made


def _candidate(
    session: Session, row: tables.Rollout, wish: Wish, version: tables.Version
) -> Candidate | None:
    """Return a module's candidate; none if a moved alias has made it the version itself."""
    followed = "@" in row.origin
    if followed and candidates.is_version(session, wish.candidate, version):
        return None
    field = f"modules.{wish.module}.{candidates.FIELD}"
    return candidates.resolve(session, wish.candidate, version, field)


def matching(session: Session, target: str) -> list[str]:
    """Return the devices that a target matches now, by id."""
    wanted, row = selectors.parse(target), tables.Device
    query = (
        select(row.id, row.labels, row.facts)
        .where(col(row.revoked_at).is_(None))
        .order_by(col(row.id))
    )
    return [
        device
        for device, labels, facts in session.exec(query)
        if wanted.matches(Target(device, labels, facts).attributes)
    ]


def _supersede(session: Session, row: tables.Rollout, *, now: float) -> None:
    """Make the rollouts before of the same name give way.

    A complete one with another target goes on for those devices that only it matches.
    """
    query = select(tables.Rollout).where(
        tables.Rollout.name == row.name,
        tables.Rollout.id != row.id,
        col(tables.Rollout.state).in_(rows.OPEN_STATES),
    )
    for former in session.exec(query).all():
        complete = former.state == State.COMPLETE.value
        if complete and former.document["target"] != row.document["target"]:
            continue
        before = rows.read(session, former)
        actions = orders.supersede(before, row.id)
        if actions:
            former.superseded_by = row.id
            carry_out(session, former, before, actions, actor=events.REGISTRY, now=now)


def carry_out(
    session: Session,
    row: tables.Rollout,
    before: state.Rollout,
    actions: tuple[state.Action, ...],
    *,
    actor: str,
    now: float,
) -> state.Rollout:
    """Have actions take effect, all in this transaction; return what the rollout is then."""
    after = state.apply(before, actions, now)
    touched = rows.write(session, row, before, after, now=now)
    rows.tell(session, row, actions, actor=actor, now=now)
    if touched:
        desired.recompute(session, desired.ids(touched), now=now)
    rows.retire(session, row, after, now=now)
    return after


def follow(session: Session, *, now: float) -> list[tables.Rollout]:
    """Make a new rollout for the newest of each name whose alias moved, if its document asks.

    One that cannot be made says so and holds up no other.
    """
    query = (
        select(tables.Rollout)
        .where(col(tables.Rollout.state).in_(rows.OPEN_STATES))
        .order_by(col(tables.Rollout.sequence))
    )
    newest = {row.name: row for row in session.exec(query)}
    made = []
    for row in newest.values():
        moved = _moved(session, row)
        again = _follow(session, row, moved, now=now) if moved else None
        if again is not None:
            made.append(again)
        if again is not None or not moved:
            troubles.clear(session, row, troubles.FOLLOW, now=now)
    return made


def _follow(
    session: Session, row: tables.Rollout, alias: str, *, now: float
) -> tables.Rollout | None:
    try:
        with session.begin_nested():
            document = rows.document(row)
            return create(session, document, actor=events.REGISTRY, now=now, origin=alias)
    except PackhorseError as error:
        troubles.note(session, row, troubles.FOLLOW, f"{alias}: {error}", now=now)
        return None


def _moved(session: Session, row: tables.Rollout) -> str:
    """Return which alias of a rollout names another version now; "": none that it follows."""
    wishes = row.document["modules"]
    if row.state == State.REVERTING.value or not any(each["follow"] for each in wishes.values()):
        return ""
    for module in rows.modules(session, row.id):
        if module.alias is None or not wishes[module.module]["follow"]:
            continue
        alias = session.get(tables.Alias, (module.model, module.alias))
        if alias is not None and alias.version != module.version:
            return f"{module.model}@{module.alias}"
    return ""


def rollback(session: Session, to: str, *, actor: str, now: float) -> tables.Rollout:
    """Roll out once more what an earlier rollout or deployment brought: the same versions.

    Raises ConflictError for one that was made without a document.
    """
    earlier = _earlier(session, to)
    document = rows.document(earlier)
    pinned = {
        module.module: _pinned(module, document.modules[module.module])
        for module in rows.modules(session, earlier.id)
    }
    again = document.model_copy(update={"modules": pinned})
    return create(session, again, actor=actor, now=now, origin=earlier.id)


def _pinned(made: tables.Deployment, wish: shapes.ModuleWish) -> shapes.ModuleWish:
    """Return a wish for the versions that were meant; a candidate that was promoted is none."""
    changes = {"model": f"{made.model}:{made.version}", "follow": False, "candidate": None}
    candidate = candidates.of(made)
    if candidate is not None and wish.candidate is not None:
        named = f"{candidate.model}:{candidate.version}"
        changes["candidate"] = wish.candidate.model_copy(update={"model": named})
    return wish.model_copy(update=changes)


def _earlier(session: Session, to: str) -> tables.Rollout:
    query = select(tables.Deployment).where(tables.Deployment.id == to)
    deployment = session.exec(query).one_or_none()
    if deployment is None:
        return rows.get(session, to)
    if deployment.rollout is None:
        fix = "deploy its version again: `packhorse deploy NAME:VERSION --to ...`"
        raise ConflictError(f"deployment: {to} was made without a document: {fix}")
    return rows.get(session, deployment.rollout)


def give_order(
    session: Session, rollout: str, order: str, *, note: str, actor: str, now: float
) -> tables.Rollout:
    """Have a rollout do what an operator says; raises ConflictError if it cannot."""
    row = rows.get(session, rollout)
    before = rows.read(session, row)
    if order in {"approve", "promote"}:
        wave = orders.approve(before) if order == "approve" else orders.promote(before)
        told = {"kind": order, "wave": wave, "by": actor, "at": now, "note": note}
        row.approvals = [*row.approvals, told]
        row.revision += 1
        session.add(row)
        kind = "rollout.approved" if order == "approve" else "rollout.promoted"
        data = {"name": row.name, "wave": wave, "note": note}
        events.add(session, at=now, actor=actor, kind=kind, subject=row.id, data=data)
        return row
    simple = {
        "pause": orders.pause,
        "resume": orders.resume,
        "cancel": orders.cancel,
        "revert": orders.revert,
    }
    if order not in simple:
        raise InvalidError("order", order, f"give one of {', '.join(sorted(simple))}")
    actions = simple[order](before)
    if actions:
        carry_out(session, row, before, actions, actor=actor, now=now)
    return row
