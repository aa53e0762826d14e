"""What the fleet runs and what it shall or may run next: read from the database, as movements."""

import collections
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlmodel import Session, col, func, select

from cloud import tables
from cloud.deltas.listings import Listings
from cloud.deltas.policy import Movement
from runtime import messages
from runtime.digests import Digest
from runtime.messages import Desired, ModuleSpec

NEWEST = 16
"""The newest versions of so many models may well be deployed next."""
_BATCH = 500


@dataclass(frozen=True)
class Step:
    """From one bundle to another."""

    source: Digest
    target: Digest
    wanted: bool


@dataclass(frozen=True)
class Demand:
    """All that is worth preparing."""

    steps: collections.Counter[Step]
    """How many devices each is for."""
    deployed: frozenset[Digest]
    """Bundles of active deployments."""
    newest: frozenset[Digest]
    """Bundles of the versions registered last."""

    @property
    def whole(self) -> set[Digest]:
        """Bundles that some device may have to fetch whole."""
        return {*self.deployed, *self.newest}


class _Run(msgspec.Struct):
    """What a device runs, or will before long."""

    module: str
    model: str
    bundle: Digest


def read(session: Session) -> Demand:
    """Return what devices that are let in run, and where they go."""
    newest = _newest(session)
    steps: collections.Counter[Step] = collections.Counter()
    for reported, body in _devices(session):
        wanted = messages.decode(Desired, body.encode()).modules if body else ()
        running = list(_running(reported))
        for spec in _with_candidates(wanted):
            for run in running:
                # Another module's only if the model is the same: it may have been renamed.
                if spec.name == run.module or spec.model == run.model:
                    steps[Step(run.bundle, spec.bundle, wanted=True)] += 1
        # What it shall run, it will have: the next version may build on that too.
        held = {(run.model, run.bundle) for run in running}
        held |= {(spec.model, spec.bundle) for spec in wanted}
        for model, bundle in held:
            if model in newest:
                steps[Step(bundle, newest[model], wanted=False)] += 1
    steps = collections.Counter({s: n for s, n in steps.items() if s.source != s.target})
    active = select(tables.Deployment.bundle).where(col(tables.Deployment.cancelled_at).is_(None))
    deployed = frozenset(map(Digest, session.exec(active)))
    return Demand(steps, deployed, frozenset(newest.values()))


def _with_candidates(wanted: Iterable[ModuleSpec]) -> Iterator[ModuleSpec]:
    """Yield what devices shall run, and as if they were modules what they shall run beside it."""
    for spec in wanted:
        yield spec
        if (made := spec.candidate) is not None:
            yield msgspec.structs.replace(
                spec, bundle=made.bundle, model=made.model, version=made.version, candidate=None
            )


def movements(demand: Demand, listings: Listings) -> list[Movement]:
    """Return the demand with what is in the bundles; those whose index is gone are left out."""
    found = []
    for step, devices in demand.steps.most_common():
        source, target = listings.of(step.source), listings.of(step.target)
        if source is not None and target is not None:
            found.append(Movement(source, target, devices, step.wanted))
    return found


def blobs_of(session: Session, bundles: Iterable[Digest]) -> dict[Digest, int]:
    """Return the sizes of all blobs of these bundles."""
    query = select(tables.BundleBlob.blob, tables.BundleBlob.size_bytes)
    rows = session.exec(query.where(col(tables.BundleBlob.bundle).in_(list(bundles))))
    return {Digest(blob): size for blob, size in rows}


def _newest(session: Session) -> dict[str, Digest]:
    """Return the newest bundle of each model, of those to which versions were added last."""
    latest = (
        select(tables.Version.model, func.max(tables.Version.number))
        .group_by(tables.Version.model)
        .order_by(func.max(tables.Version.created_at).desc())
        .limit(NEWEST)
    )
    found: dict[str, Digest] = {}
    for model, number in session.exec(latest).all():
        version = session.get(tables.Version, (model, number))
        if version is not None:
            found[model] = Digest(version.bundle)
    return found


def _devices(session: Session) -> Iterator[tuple[Mapping[str, Any] | None, str | None]]:
    query = (
        select(tables.Device.reported, tables.Desired.body)
        .join(tables.Desired, col(tables.Desired.device) == col(tables.Device.id), isouter=True)
        .where(col(tables.Device.revoked_at).is_(None))
        .execution_options(yield_per=_BATCH)
    )
    yield from session.exec(query)


def _running(reported: Mapping[str, Any] | None) -> Iterator[_Run]:
    """Yield what a device says that it runs; rows hold nothing but decoded reports."""
    for module in (reported or {}).get("modules", ()):
        running = module.get("running")
        if running is not None:
            yield _Run(module["name"], running["model"], Digest(running["bundle"]))
