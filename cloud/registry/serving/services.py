"""Services: made, updated, deleted. What they ask for is done by cloud.hosting.controller.

To declare a service that is as it is declared changes nothing. What makes a revision what it is
(model, version, settings) makes a new one, which takes over by a strategy; what the gateway does,
the ways in and the number of replicas change in place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlmodel import Session, col, func, select

from cloud import references, tables
from cloud.errors import ConflictError
from cloud.hosting import commands
from cloud.hosting import state as states
from cloud.hosting.state import Phase, State, heaviest
from cloud.hosting.strategies import Strategy
from cloud.registry import events, models
from cloud.registry.serving import rows, waysin
from cloud.registry.serving.specs import RevisionSpec, ServiceSpec
from cloud.trust.sealing import Sealer
from runtime.errors import InvalidError

MAX_SERVICES = 1000


@dataclass(frozen=True)
class Declared:
    """What came of declaring a service."""

    service: tables.Service
    created: bool
    changed: tuple[str, ...]
    """What is other than before; "revision" among it: there is a new one."""

    @property
    def revision(self) -> int | None:
        """Return the number of the new revision; None: there is none."""
        new = self.created or "revision" in self.changed
        return self.service.last_number if new else None


def declare(
    session: Session,
    spec: ServiceSpec,
    *,
    update: bool,
    sealer: Sealer,
    actor: str,
    now: float,
) -> Declared:
    """Have a service be like this; `spec` was checked.

    Raises ConflictError if there is another one of that name and it shall not be updated, or if it
    runs elsewhere; NotFoundError without such a version.
    """
    version = models.version(
        session, spec.revision.model, spec.revision.version or references.LATEST
    )
    present = session.get(tables.Service, spec.name)
    if present is None or present.removed_at is not None:
        return _create(session, present, spec, version, sealer=sealer, actor=actor, now=now)
    if present.deleted_at is not None:
        raise ConflictError(f"service: {spec.name} is being removed: wait until it is")
    if rows.place(present) != spec.place:
        raise ConflictError(
            f"service: {spec.name} runs on {rows.place_text(present)}: delete it first, or "
            "choose another name"
        )
    return _update(
        session, present, spec, version, update=update, sealer=sealer, actor=actor, now=now
    )


def _create(
    session: Session,
    old: tables.Service | None,
    spec: ServiceSpec,
    version: tables.Version,
    *,
    sealer: Sealer,
    actor: str,
    now: float,
) -> Declared:
    count = session.exec(
        select(func.count())
        .select_from(tables.Service)
        .where(col(tables.Service.removed_at).is_(None))
    ).one()
    if count >= MAX_SERVICES:
        raise ConflictError(f"services: there are {count}, and there may be {MAX_SERVICES}")
    waysin.require_free_port(session, spec)
    last = old.last_number if old else 0
    row = old or tables.Service(
        name=spec.name, kind="", generation=0, created_at=now, created_by=actor, updated_at=now
    )
    row.kind, row.host = spec.place.kind, spec.place.host
    row.context, row.namespace = spec.place.context, spec.place.namespace
    waysin.take(row, spec)
    row.state = states.plain(states.first(last + 1, spec.strategy, now))
    row.generation += 1
    row.condition, row.first_number = "", last + 1
    row.created_at, row.created_by, row.updated_at = now, actor, now
    row.deleted_at = row.removed_at = None
    row.revision += 1 if old else 0
    session.add(row)
    session.flush()
    made = _add_revision(session, row, spec.revision, version, sealer, actor=actor, now=now)
    rows.touch(session, row)
    data = {**_shown(made), "target": rows.place_text(row), "strategy": spec.strategy.kind.value}
    tell(session, row, "service.created", data, actor=actor, now=now)
    return Declared(row, created=True, changed=())


def _update(
    session: Session,
    row: tables.Service,
    spec: ServiceSpec,
    version: tables.Version,
    *,
    update: bool,
    sealer: Sealer,
    actor: str,
    now: float,
) -> Declared:
    changed = [*waysin.other(row, spec)]
    newest = current(session, row)
    renewed = _is_other(newest, spec.revision, version, sealer) or _has_failed(rows.state(row))
    if renewed:
        changed.append("revision")
    elif rows.scale(newest) != spec.revision.scale:
        changed.append("scale")
    if not changed:
        return Declared(row, created=False, changed=())
    if not update:
        raise ConflictError(
            f"service: {row.name} is there with another {', '.join(changed)}: use "
            f"`packhorse services update {row.name}`"
        )
    waysin.require_free_port(session, spec)
    data: dict[str, Any] = {"changed": changed}
    waysin.take(row, spec)
    if renewed:
        made = _add_revision(session, row, spec.revision, version, sealer, actor=actor, now=now)
        started = commands.begin(rows.state(row), made.number, spec.strategy, now)
        rows.set_state(session, row, started)
        data |= {**_shown(made), "strategy": spec.strategy.kind.value}
    elif "scale" in changed:
        newest.scale = msgspec.to_builtins(spec.revision.scale)
        session.add(newest)
    row.generation += 1
    note_change(session, row, now=now)
    tell(session, row, "service.updated", data, actor=actor, now=now)
    return Declared(row, created=False, changed=tuple(changed))


def note_change(session: Session, row: tables.Service, *, now: float) -> None:
    """Note that an operator changed something of a service."""
    row.revision += 1
    row.updated_at = now
    rows.touch(session, row)


def current(session: Session, row: tables.Service) -> tables.ServiceRevision:
    """Return the revision that the service has, or is about to have."""
    known = rows.state(row)
    goal = known.rollout.goal if known.rollout is not None else known.traffic
    return rows.revision(session, row, heaviest(goal))


def spec_of(
    session: Session, row: tables.Service, *, sealer: Sealer, strategy: Strategy
) -> ServiceSpec:
    """Return what was asked of a service as it is, for what shall be changed of it."""
    made = current(session, row)
    return ServiceSpec(
        name=row.name,
        place=rows.place(row),
        revision=RevisionSpec(
            model=made.model,
            version=made.version,
            resources=rows.resources(made),
            scale=rows.scale(made),
            env=made.env,
            secrets=rows.unseal(sealer, made),
            node_selector=made.node_selector,
            base_image=made.base_image,
        ),
        strategy=strategy,
        gateway=rows.gateway(row),
        port=row.port,
        bind=row.bind,
        route=rows.route(row),
    )


def _add_revision(
    session: Session,
    row: tables.Service,
    spec: RevisionSpec,
    version: tables.Version,
    sealer: Sealer,
    *,
    actor: str,
    now: float,
) -> tables.ServiceRevision:
    _require_model(session, version)
    row.last_number += 1
    made = tables.ServiceRevision(
        service=row.name,
        number=row.last_number,
        model=version.model,
        version=version.number,
        alias=_alias(spec.version),
        bundle=version.bundle,
        resources=msgspec.to_builtins(spec.resources),
        scale=msgspec.to_builtins(spec.scale),
        env=dict(spec.env),
        node_selector=dict(spec.node_selector),
        base_image=spec.base_image,
        created_at=now,
        created_by=actor,
    )
    rows.seal(sealer, made, dict(spec.secrets))
    session.add(made)
    session.flush()
    return made


def _require_model(session: Session, version: tables.Version) -> None:
    bundle = session.get(tables.Bundle, version.bundle)
    if bundle is not None and bundle.kind == "container":
        fix = "a container is no model: `packhorse deploy` brings it to devices"
        raise InvalidError("bundle", f"{version.model}:{version.number}", fix)


def _alias(version: int | str | None) -> str | None:
    text = str(version or references.LATEST)
    named = text != references.LATEST and references.number(text) is None
    return text if named else None


def _is_other(
    made: tables.ServiceRevision, spec: RevisionSpec, version: tables.Version, sealer: Sealer
) -> bool:
    """Say whether a revision is another one than is asked for."""
    return (
        (made.model, made.version, made.bundle) != (version.model, version.number, version.bundle)
        or rows.resources(made) != spec.resources
        or made.env != dict(spec.env)
        or made.node_selector != dict(spec.node_selector)
        or made.base_image != spec.base_image
        or rows.unseal(sealer, made) != dict(spec.secrets)
    )


def _has_failed(known: State) -> bool:
    """Say whether the service never came up, so that to ask again means to try again."""
    return known.rollout is not None and known.rollout.phase is Phase.FAILED


def _shown(made: tables.ServiceRevision) -> dict[str, Any]:
    return {
        "revision": f"r{made.number}",
        "model": made.model,
        "version": made.version,
        "alias": made.alias,
        "bundle": made.bundle,
    }


def tell(
    session: Session,
    row: tables.Service,
    kind: str,
    data: Mapping[str, Any],
    *,
    actor: str,
    now: float,
) -> None:
    """Note an event of a service."""
    events.add(session, at=now, actor=actor, kind=kind, subject=row.name, data=data)
