"""Keys of services: who may ask one, and how often. Only their SHA-256 is kept."""

from collections.abc import Sequence

from sqlmodel import Session, col, select

from cloud import tables
from cloud.errors import ConflictError, NotFoundError
from cloud.registry import events
from cloud.registry.serving import rows, services
from cloud.registry.serving.specs import check_name
from cloud.trust import keys
from cloud.trust.sealing import Sealer
from runtime.errors import InvalidError
from runtime.gateway.config import Limit

PREFIX = "phs_"
FIRST = "first"
OWN = "@registry"
"""A name that no other key can have."""
MAX_KEYS = 200
MAX_PER_S, MAX_BURST = 1_000_000.0, 1_000_000


def good(session: Session, service: str) -> Sequence[tables.ServiceKey]:
    """Return the keys that work, by name."""
    row = tables.ServiceKey
    query = select(row).where(row.service == service, col(row.revoked_at).is_(None))
    return session.exec(query.order_by(col(row.name))).all()


def add(
    session: Session,
    service: tables.Service,
    name: str,
    limit: Limit | None,
    *,
    actor: str,
    now: float,
) -> tuple[str, tables.ServiceKey]:
    """Return a new key, shown this once, and its row; raise ConflictError if the name is taken."""
    check_name(name)
    _check_limit(limit)
    known = good(session, service.name)
    if any(each.name == name for each in known):
        raise ConflictError(f"key: {service.name} has one called {name}: revoke it first")
    if len(known) >= MAX_KEYS:
        raise ConflictError(f"keys: {service.name} has {len(known)}, and may have {MAX_KEYS}")
    secret = keys.make_secret(PREFIX)
    row = tables.ServiceKey(
        service=service.name,
        name=name,
        sha256=keys.hashed(secret),
        per_s=None if limit is None else limit.per_s,
        burst=None if limit is None else limit.burst,
        created_at=now,
        created_by=actor,
    )
    session.add(row)
    _note(session, service, "service.key_added", name, actor=actor, now=now)
    return secret, row


def revoke(session: Session, service: tables.Service, name: str, *, actor: str, now: float) -> None:
    """Have a key work no more; raise NotFoundError if there is none of that name."""
    found = [each for each in good(session, service.name) if each.name == name]
    if not found:
        fix = f"see `packhorse services keys list {service.name}`"
        raise NotFoundError("key", f"{name} of {service.name}", fix)
    found[0].revoked_at = now
    session.add(found[0])
    _note(session, service, "service.key_revoked", name, actor=actor, now=now)


def own(sealer: Sealer, service: str) -> str:
    """Return the key by which the registry itself asks a service: of this registry and this name.

    It is in every gateway's configuration, as a hash like all others, under the name OWN.
    """
    return PREFIX + sealer.token(f"service:{service}:ask")


def limit(row: tables.ServiceKey) -> Limit | None:
    """Return how often a key may ask."""
    if row.per_s is None or row.burst is None:
        return None
    return Limit(row.per_s, row.burst)


def _check_limit(limit: Limit | None) -> None:
    if limit is None:
        return
    if not 0 < limit.per_s <= MAX_PER_S:
        raise InvalidError("limit.per_s", limit.per_s, "give requests a second, above 0")
    if not 1 <= limit.burst <= MAX_BURST:
        raise InvalidError("limit.burst", limit.burst, f"give 1 to {MAX_BURST}")


def _note(
    session: Session, service: tables.Service, kind: str, name: str, *, actor: str, now: float
) -> None:
    session.flush()
    service.generation += 1
    services.note_change(session, service, now=now)
    events.add(session, at=now, actor=actor, kind=kind, subject=service.name, data={"name": name})
    rows.touch(session, service)
