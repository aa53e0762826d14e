"""Rows of services as values, and back."""

import json
from collections.abc import Sequence

import msgspec
from sqlmodel import Session, col, select

from cloud import tables
from cloud.errors import NotFoundError
from cloud.hosting import state as states
from cloud.hosting.state import State
from cloud.hosting.targets import Place, Resources, Route, Scale
from cloud.registry.serving.specs import GatewaySettings
from cloud.services import Change, mark
from cloud.trust.sealing import Sealer
from runtime.errors import InvalidError


def get(session: Session, name: str) -> tables.Service:
    """Return a service; raise NotFoundError if there is none, also while one is being removed."""
    row = session.get(tables.Service, name)
    if row is None or row.deleted_at is not None:
        raise NotFoundError("service", name, "see `packhorse services list`")
    return row


def find(session: Session, name: str) -> tables.Service | None:
    """Return a service of which there may be something, also one that is being removed."""
    row = session.get(tables.Service, name)
    return None if row is None or row.removed_at is not None else row


def there(session: Session, *, after: str = "", limit: int | None = None) -> list[tables.Service]:
    """Return services of which there may be something, by name."""
    row = tables.Service
    query = select(row).where(col(row.name) > after, col(row.removed_at).is_(None))
    return list(session.exec(query.order_by(col(row.name)).limit(limit)).all())


def state(row: tables.Service) -> State:
    """Return what is known of its traffic."""
    return states.read(row.state)


def set_state(session: Session, row: tables.Service, new: State) -> None:
    """Save another state; the generation rises if the target must be told."""
    old = state(row)
    if new == old:
        return
    told = (new.traffic, new.mirror, new.mirror_fraction, new.wanted)
    if told != (old.traffic, old.mirror, old.mirror_fraction, old.wanted):
        row.generation += 1
    row.state = states.plain(new)
    touch(session, row)


def touch(session: Session, row: tables.Service) -> None:
    """Have whoever takes care of services look at this one after the commit."""
    session.add(row)
    mark(session, Change.SERVICES)


def place(row: tables.Service) -> Place:
    """Return where it runs."""
    return Place(row.kind, row.host, row.context, row.namespace)


def place_text(row: tables.Service) -> str:
    """Return where it runs, for a person."""
    parts = [row.kind, row.host, row.context, row.namespace]
    return "/".join(part for part in parts if part)


def route(row: tables.Service) -> Route | None:
    """Return how the world reaches it."""
    return None if row.route is None else msgspec.convert(row.route, Route)


def gateway(row: tables.Service) -> GatewaySettings:
    """Return how its gateway treats requests."""
    return msgspec.convert(row.gateway, GatewaySettings)


def revision(session: Session, row: tables.Service, number: int) -> tables.ServiceRevision:
    """Return a revision; raise NotFoundError if this service has none of that number."""
    found = session.get(tables.ServiceRevision, (row.name, number))
    if found is None or number < row.first_number:
        fix = f"see `packhorse services show {row.name}`"
        raise NotFoundError("revision", f"r{number} of {row.name}", fix)
    return found


def revisions(session: Session, row: tables.Service) -> Sequence[tables.ServiceRevision]:
    """Return the revisions of this life of the service, oldest first."""
    table = tables.ServiceRevision
    query = select(table).where(table.service == row.name, col(table.number) >= row.first_number)
    return session.exec(query.order_by(col(table.number))).all()


def resources(row: tables.ServiceRevision) -> Resources:
    """Return what a replica may use."""
    return msgspec.convert(row.resources, Resources)


def scale(row: tables.ServiceRevision) -> Scale:
    """Return how many replicas there shall be."""
    return msgspec.convert(row.scale, Scale)


def seal(sealer: Sealer, row: tables.ServiceRevision, secrets: dict[str, str]) -> None:
    """Put secrets into a revision."""
    row.secret_names = sorted(secrets)
    row.secrets = sealer.seal(json.dumps(secrets).encode(), _purpose(row)) if secrets else None


def unseal(sealer: Sealer, row: tables.ServiceRevision) -> dict[str, str]:
    """Return a revision's secrets; raise SealError if they are not of this registry."""
    if row.secrets is None:
        return {}
    found: dict[str, str] = json.loads(sealer.unseal(row.secrets, _purpose(row)))
    return found


def _purpose(row: tables.ServiceRevision) -> str:
    return f"service:{row.service}:r{row.number}"


def number(name: str, field: str = "revision") -> int:
    """Return the number in a revision's name, such as r3."""
    digits = name.removeprefix("r")
    if not digits.isascii() or not digits.isdigit() or not 0 < int(digits) < 1 << 31:
        raise InvalidError(field, name, "write the name of a revision, such as r3")
    return int(digits)
