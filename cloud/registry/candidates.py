"""Candidates of deployments: which version, by which rules, and how one becomes the version."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
from sqlmodel import Session, col, select

from cloud import references, tables
from cloud.errors import ConflictError
from cloud.registry import models
from runtime import candidates
from runtime.candidates import Candidate, Gate, Mode, Promote
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.messages import ModuleSpec

FIELD = "candidate"
CONTAINER = "container"


@dataclass(frozen=True)
class CandidateWish:
    """What an operator asks for."""

    model: str
    version: int | str | None = None
    """A number, an alias or "latest"; None: the newest."""
    mode: Mode = Mode.SHADOW
    fraction: float = 1.0
    cpu: float = 0.5
    memory_mb: int | None = None
    gate: Gate = field(default_factory=Gate)
    promote: Promote = Promote.BY_HAND


def resolve(
    session: Session, wish: CandidateWish | None, own: tables.Version, field: str = FIELD
) -> Candidate | None:
    """Return a candidate as devices are told of it; raises Invalid or NotFoundError.

    `field` is what an error names.
    """
    if wish is None:
        return None
    version = models.version(session, wish.model, wish.version or references.LATEST)
    if is_version(session, wish, own):
        named = f"{version.model}:{version.number}"
        fix = "it is what the deployment runs: name another version"
        raise InvalidError(field, named, fix)
    for each in (version, own):
        bundle = session.get(tables.Bundle, each.bundle)
        if bundle is not None and bundle.kind == CONTAINER:
            named = f"{each.model}:{each.number}"
            fix = "it is a container, which answers no inference: candidates are for models"
            raise InvalidError(field, named, fix)
    made = Candidate(
        bundle=Digest(version.bundle),
        model=version.model,
        version=version.number,
        mode=wish.mode,
        fraction=wish.fraction,
        cpu=wish.cpu,
        memory_mb=wish.memory_mb,
        gate=wish.gate,
        promote=wish.promote,
    )
    candidates.check(made, field)
    return made


def is_version(session: Session, wish: CandidateWish | None, own: tables.Version) -> bool:
    """Say whether a candidate is what the deployment runs anyway."""
    if wish is None:
        return False
    version = models.version(session, wish.model, wish.version or references.LATEST)
    return version.bundle == own.bundle


def of(row: tables.Deployment) -> Candidate | None:
    """Return a deployment's candidate."""
    return None if row.candidate is None else msgspec.convert(row.candidate, Candidate)


def promote(row: tables.Deployment) -> Candidate:
    """Make the candidate of a deployment its version; raise ConflictError if it has none."""
    if row.cancelled_at is not None:
        raise ConflictError(f"deployment: {row.id} was cancelled: make a new one")
    candidate = of(row)
    if candidate is None:
        raise ConflictError(f"deployment: {row.id} has no candidate")
    row.model, row.version, row.bundle = candidate.model, candidate.version, candidate.bundle
    row.alias, row.candidate = None, None
    row.revision += 1
    return candidate


def bundles(modules: Iterable[ModuleSpec]) -> dict[Digest, tuple[ModuleSpec, str, int]]:
    """Return all bundles that modules need: whose each is, its model and its version."""
    found: dict[Digest, tuple[ModuleSpec, str, int]] = {}
    for module in modules:
        found[module.bundle] = (module, module.model, module.version)
        if (candidate := module.candidate) is not None:
            found.setdefault(candidate.bundle, (module, candidate.model, candidate.version))
    return found


def users(session: Session, name: str, number: int) -> list[tables.Deployment]:
    """Return the active deployments whose candidate a version is."""
    row = tables.Deployment
    query = select(row).where(col(row.cancelled_at).is_(None), col(row.candidate).is_not(None))
    return [
        each
        for each in session.exec(query.order_by(col(row.sequence)))
        if each.candidate is not None
        and (each.candidate["model"], each.candidate["version"]) == (name, number)
    ]
