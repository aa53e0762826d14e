"""What a target is told of a service, from what the registry knows of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from cloud import tables
from cloud.hosting.state import State
from cloud.hosting.strategies import WHOLE
from cloud.hosting.targets import Place, RevisionWish, Wish
from cloud.images.maker import Wanted
from cloud.registry.serving import keys, rows, runs
from cloud.trust.keys import hashed
from cloud.trust.sealing import Sealer
from runtime.gateway.config import Config, Key, Revision


@dataclass(frozen=True)
class Snapshot:
    """A service as the registry knows it at one moment."""

    row: tables.Service
    place: Place
    state: State
    revisions: tuple[tables.ServiceRevision, ...]
    """Those that shall have replicas, oldest first."""
    keys: tuple[tables.ServiceKey, ...]
    shares: dict[int, int]
    """What the runs say of who has traffic now."""

    @property
    def generation(self) -> int:
        """Return the newest generation of its wish."""
        return self.row.generation

    @property
    def images(self) -> frozenset[int]:
        """Return the revisions whose image is there."""
        return frozenset(each.number for each in self.revisions if each.image is not None)

    def same(self, row: tables.Service) -> bool:
        """Say whether nobody changed the service since."""
        mine = self.row
        return (mine.generation, mine.revision, mine.state, mine.deleted_at) == (
            row.generation,
            row.revision,
            row.state,
            row.deleted_at,
        )


def snapshot(session: Session, name: str) -> Snapshot | None:
    """Return a service; None if nothing of it is left."""
    row = rows.find(session, name)
    if row is None:
        return None
    state = rows.state(row)
    wanted = [each for each in rows.revisions(session, row) if each.number in state.wanted]
    good = keys.good(session, name)
    shares = {number: run.weight for number, run in runs.under_way(session, name).items()}
    session.expunge_all()
    return Snapshot(row, rows.place(row), state, tuple(wanted), tuple(good), shares)


def wanted_image(found: Snapshot, revision: tables.ServiceRevision) -> Wanted:
    """Return the image that a revision needs."""
    return Wanted(
        place=found.place,
        model=revision.model,
        version=revision.version,
        bundle=revision.bundle,
        base_image=revision.base_image,
        gpus=rows.resources(revision).gpus > 0,
    )


def wish(found: Snapshot, gateway_image: str, sealer: Sealer) -> Wish:
    """Return all that shall be there of a service; revisions without an image are left out.

    Raises SealError if its secrets are not of this registry.
    """
    row, made = found.row, [each for each in found.revisions if each.image is not None]
    own = Key(keys.OWN, hashed(keys.own(sealer, row.name)))
    return Wish(
        service=row.name,
        generation=row.generation,
        revisions=tuple(_revision(each, sealer) for each in made),
        gateway_image=gateway_image,
        gateway=_config(found, [each.number for each in made], own),
        gateway_replicas=rows.gateway(row).replicas,
        port=row.port,
        bind=row.bind,
        route=rows.route(row),
    )


def _revision(row: tables.ServiceRevision, sealer: Sealer) -> RevisionWish:
    assert row.image is not None, "left out above"
    return RevisionWish(
        number=row.number,
        image=row.image,
        model=row.model,
        version=row.version,
        bundle=row.bundle,
        resources=rows.resources(row),
        scale=rows.scale(row),
        env=dict(row.env),
        secrets=rows.unseal(sealer, row),
        node_selector=dict(row.node_selector),
    )


def _config(found: Snapshot, numbers: Sequence[int], own: Key) -> Config:
    chosen, traffic = rows.gateway(found.row), found.state.traffic
    weights = {number: traffic.get(number, 0) for number in numbers}
    if sum(weights.values()) != WHOLE:
        weights = dict.fromkeys(numbers, 0)  # the image of one with traffic is not there yet
    mirror = found.state.mirror
    return Config(
        service=found.row.name,
        generation=found.row.generation,
        revisions=tuple(Revision(f"r{number}", weights[number]) for number in numbers),
        keys=(*(Key(each.name, each.sha256, keys.limit(each)) for each in found.keys), own),
        anonymous=chosen.anonymous,
        mirror=f"r{mirror}" if mirror in weights else None,
        mirror_fraction=found.state.mirror_fraction,
        capture=chosen.capture,
        timeout_s=chosen.timeout_s,
        max_body_bytes=chosen.max_body_bytes,
    )
