"""Deployments: what shall run where (how far they are: progress.py).

Those made here reach all devices at once; those of a document go through a rollout, which
`cloud.rollouts` makes and looks after.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from sqlmodel import Session, col, select

from cloud import references, tables
from cloud.errors import ConflictError, NotFoundError
from cloud.registry import (
    candidates,
    desired,
    downloads,
    events,
    models,
    selectors,
)
from cloud.registry.candidates import CandidateWish
from cloud.registry.downloads import Download
from runtime import topics
from runtime.errors import InvalidError
from runtime.messages import Capture

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
MAX_SOURCES = 32
MAX_SOURCE_CHARS = 1024
MAX_SOAK_S = 86400.0
MAX_NAME_CHARS = 200


@dataclass(frozen=True)
class Wish:
    """What an operator asks for."""

    model: str
    selector: str
    version: int | str | None = None
    """A number, an alias or "latest"; None: the newest."""
    module: str | None = None
    """None: called like the model."""
    sources: tuple[str, ...] | None = None
    """None: what the bundle says."""
    capture: Capture = field(default_factory=Capture)
    soak_s: float = 30.0
    name: str = ""
    candidate: CandidateWish | None = None
    download: Download = field(default_factory=Download)


def create(session: Session, wish: Wish, *, actor: str, now: float) -> tables.Deployment:
    """Make a deployment and the desired states that follow; raises Invalid or NotFoundError."""
    _check(wish)
    version = models.version(session, wish.model, wish.version or references.LATEST)
    candidate = candidates.resolve(session, wish.candidate, version)
    row = tables.Deployment(
        id=new_id("dep"),
        name=wish.name,
        model=version.model,
        version=version.number,
        alias=_alias(wish),
        bundle=version.bundle,
        module=topics.device_id(wish.module or wish.model, "module"),
        selector=wish.selector,
        sources=None if wish.sources is None else list(wish.sources),
        capture=downloads.written(msgspec.to_builtins(wish.capture), wish.download),
        soak_s=wish.soak_s,
        candidate=None if candidate is None else msgspec.to_builtins(candidate),
        created_at=now,
        created_by=actor,
    )
    session.add(row)
    session.flush()
    changed = desired.recompute(session, now=now)
    data = {
        "model": row.model,
        "version": row.version,
        "alias": row.alias,
        "bundle": row.bundle,
        "selector": row.selector,
        "devices": len(changed),
    }
    events.add(session, at=now, actor=actor, kind="deployment.created", subject=row.id, data=data)
    return row


def new_id(kind: str) -> str:
    """Return an id that nothing has yet: dep-k3v..."""
    return f"{kind}-" + "".join(secrets.choice(_BASE32) for _ in range(8))


def _alias(wish: Wish) -> str | None:
    """Return the alias that named the version, if one did."""
    text = str(wish.version or references.LATEST)
    named = text != references.LATEST and references.number(text) is None
    return text if named else None


def _check(wish: Wish) -> None:
    selectors.parse(wish.selector)
    downloads.check(wish.download)
    if len(wish.name) > MAX_NAME_CHARS:
        raise InvalidError("name", wish.name, f"use at most {MAX_NAME_CHARS} characters")
    check_running(wish)


def check_running(wish: Wish) -> None:
    """Raise InvalidError if a device could not be told this."""
    if not 0 <= wish.capture.inputs <= 1:
        raise InvalidError("capture.inputs", wish.capture.inputs, "give a fraction from 0 to 1")
    if not 0 <= wish.soak_s <= MAX_SOAK_S:
        raise InvalidError("soak_s", wish.soak_s, f"give 0 to {MAX_SOAK_S:.0f} seconds")
    sources = wish.sources or ()
    if len(sources) > MAX_SOURCES or len(set(sources)) != len(sources):
        raise InvalidError("sources", sources, f"give at most {MAX_SOURCES}, each once")
    for source in sources:
        scheme, colon, _rest = source.partition(":")
        if not colon or not scheme.isalnum() or len(source) > MAX_SOURCE_CHARS:
            raise InvalidError("sources", source, "give URIs, such as directory:inbox")


def get(session: Session, deployment: str) -> tables.Deployment:
    """Return a deployment; raise NotFoundError if there is none."""
    query = select(tables.Deployment).where(tables.Deployment.id == deployment)
    row = session.exec(query).one_or_none()
    if row is None:
        raise NotFoundError("deployment", deployment, "see `packhorse deployments list`")
    return row


def page(session: Session, *, before: int | None, limit: int) -> Sequence[tables.Deployment]:
    """Return up to `limit` deployments, newest first, older than number `before`."""
    query = select(tables.Deployment)
    if before is not None:
        query = query.where(col(tables.Deployment.sequence) < before)
    return session.exec(query.order_by(col(tables.Deployment.sequence).desc()).limit(limit)).all()


def cancel(session: Session, deployment: str, *, actor: str, now: float) -> tables.Deployment:
    """Withdraw a wish: on each device the newest other deployment of the module decides again.

    Where there is none, the module is removed. A deployment that is cancelled already stays so.
    """
    row = get(session, deployment)
    if row.cancelled_at is None:
        _require_own(row, "cancel")
        row.cancelled_at = now
        row.revision += 1
        session.add(row)
        session.flush()
        desired.recompute(session, now=now)
        events.add(session, at=now, actor=actor, kind="deployment.cancelled", subject=row.id)
    return row


def _require_own(row: tables.Deployment, what: str) -> None:
    if row.rollout is not None:
        raise ConflictError(
            f"deployment: {row.id} belongs to rollout {row.rollout}: "
            f"`packhorse rollouts {what} {row.rollout}`, or `revert` to undo it"
        )


def retry(session: Session, deployment: str, *, actor: str, now: float) -> tables.Deployment:
    """Have devices that refused this bundle try it again; raise ConflictError if cancelled."""
    row = get(session, deployment)
    if row.cancelled_at is not None:
        raise ConflictError(f"deployment: {row.id} was cancelled: make a new one")
    row.attempt += 1
    row.revision += 1
    session.add(row)
    session.flush()
    desired.recompute(session, now=now)
    events.add(
        session,
        at=now,
        actor=actor,
        kind="deployment.retried",
        subject=row.id,
        data={"attempt": row.attempt},
    )
    return row


def promote(session: Session, deployment: str, *, actor: str, now: float) -> tables.Deployment:
    """Make the candidate the version, everywhere; raise ConflictError if there is none."""
    row = get(session, deployment)
    before = f"{row.model}:{row.version}"
    made = candidates.promote(row)
    session.add(row)
    session.flush()
    desired.recompute(session, now=now)
    data = {"model": made.model, "version": made.version, "bundle": made.bundle, "before": before}
    events.add(session, at=now, actor=actor, kind="deployment.promoted", subject=row.id, data=data)
    return row
