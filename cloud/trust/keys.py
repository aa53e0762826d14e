"""API keys and other secrets that are shown once: only their SHA-256 is stored.

The secrets have 256 random bits, so a plain hash keeps them safe; nobody can guess one.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlmodel import Session, select

from cloud import database, tables
from cloud.errors import KeyRefusedError
from cloud.registry import events
from cloud.registry.roles import Role
from runtime import files

PREFIX = "phk_"
SECRET_BYTES = 32
ADMIN = "admin"
MAX_SECRET_CHARS = 256


@dataclass(frozen=True)
class Caller:
    """Whoever has a good key."""

    name: str
    """Of the key."""
    role: Role


def make_secret(prefix: str) -> str:
    """Return a new secret that says by its prefix what it is."""
    return prefix + secrets.token_urlsafe(SECRET_BYTES)


def hashed(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def authenticate(session: Session, key: str) -> Caller:
    """Return whose key it is; raise KeyRefusedError if it is none of ours, or revoked."""
    wanted = hashed(key[:MAX_SECRET_CHARS])
    row = session.exec(select(tables.ApiKey).where(tables.ApiKey.sha256 == wanted)).one_or_none()
    known = row is not None and hmac.compare_digest(row.sha256, wanted)
    if row is None or not known or row.revoked_at is not None:
        raise KeyRefusedError("key: it is not known here: see `packhorse login --help`")
    return Caller(row.name, Role(row.role))


def ensure_admin(engine: Engine, directory: Path, *, now: float) -> str | None:
    """Make the admin key at the first start; return it then, to be shown once, and later None.

    It also lies in `directory`/admin.key (0600), beside secrets that are worth as much, until an
    operator removes it: a start that was killed half-way, or an unread terminal, loses nothing.
    """
    with database.reading(engine) as session:
        if session.exec(select(tables.ApiKey).where(tables.ApiKey.name == ADMIN)).first():
            return None
    path = files.make_directory(directory) / "admin.key"
    if not path.exists():
        files.write_atomic(path, make_secret(PREFIX).encode() + b"\n")
    key = path.read_text("ascii").strip()
    with database.transaction(engine) as session:
        role = Role.ADMIN.value
        session.add(tables.ApiKey(name=ADMIN, sha256=hashed(key), created_at=now, role=role))
        events.add(session, at=now, actor=events.REGISTRY, kind="key.created", subject=ADMIN)
    return key
