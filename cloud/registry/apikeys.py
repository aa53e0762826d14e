"""Keys of the API: who may ask the registry, and what. Only their SHA-256 is kept.

A name is given once, also after its key was revoked: the history names keys.
"""

import re
from collections.abc import Sequence

from sqlmodel import Session, col, select

from cloud import tables
from cloud.errors import ConflictError, NotFoundError
from cloud.registry import events
from cloud.registry.roles import Role
from cloud.trust import keys
from runtime.errors import InvalidError

MAX_KEYS = 1000
_NAME = re.compile("[a-z0-9][a-z0-9._-]{0,62}")


def page(session: Session, *, after: str, limit: int) -> Sequence[tables.ApiKey]:
    """Return keys by name, revoked ones among them, from behind `after` on."""
    row = tables.ApiKey
    query = select(row).where(col(row.name) > after)
    return session.exec(query.order_by(col(row.name)).limit(limit)).all()


def create(
    session: Session, name: str, role: Role, *, actor: str, now: float
) -> tuple[str, tables.ApiKey]:
    """Return a new key, shown this once, and its row; raise ConflictError if the name is taken."""
    if not _NAME.fullmatch(name):
        raise InvalidError("name", name, "use 1 to 63 of a-z, 0-9, '.', '_' and '-'")
    if _find(session, name) is not None:
        raise ConflictError(f"key: there is or was one called {name}: choose another name")
    if len(page(session, after="", limit=MAX_KEYS)) >= MAX_KEYS:
        raise ConflictError(f"keys: there may be {MAX_KEYS} of them, revoked ones counted")
    secret = keys.make_secret(keys.PREFIX)
    row = tables.ApiKey(name=name, sha256=keys.hashed(secret), created_at=now, role=role.value)
    session.add(row)
    data = {"role": role.value}
    events.add(session, at=now, actor=actor, kind="key.created", subject=name, data=data)
    return secret, row


def revoke(session: Session, name: str, *, actor: str, now: float) -> tables.ApiKey:
    """Have a key work no more; again changes nothing. The last admin's key cannot be revoked."""
    row = _find(session, name)
    if row is None:
        raise NotFoundError("key", name, "see `packhorse keys list`")
    if row.revoked_at is not None:
        return row
    if row.role == Role.ADMIN.value and _admins(session) == 1:
        raise ConflictError(f"key: {name} is the last admin's: make another one first")
    row.revoked_at = now
    session.add(row)
    events.add(session, at=now, actor=actor, kind="key.revoked", subject=name)
    return row


def _find(session: Session, name: str) -> tables.ApiKey | None:
    return session.exec(select(tables.ApiKey).where(tables.ApiKey.name == name)).one_or_none()


def _admins(session: Session) -> int:
    row = tables.ApiKey
    query = select(row).where(row.role == Role.ADMIN.value, col(row.revoked_at).is_(None))
    return len(session.exec(query).all())
