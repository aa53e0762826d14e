"""Deletion of versions and models: refused while something uses them, clean otherwise.

What uses a version is found by the functions in USERS. Deletion and whatever begins to use a
version are transactions that write, so one follows the other: a deployment that comes first is
seen here, one that comes later does not find the version.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, delete, select

from cloud import tables
from cloud.errors import StillUsedError
from cloud.registry import candidates, catalogue, descriptions, events, models
from cloud.registry.serving import traffic


@dataclass(frozen=True)
class User:
    """Something that needs a version."""

    kind: str
    """"deployment", "service", "alias" or "ensemble"."""
    id: str
    name: str
    """What people call it, or which part of it; "" if there is nothing more to say."""
    version: str
    """What it uses, as NAME:NUMBER."""

    def __str__(self) -> str:
        """Write it as people do."""
        return f"{self.kind} {self.id}" + (f" ({self.name})" if self.name else "")


@dataclass(frozen=True)
class Usage:
    """Who needs a version, or any version of a model."""

    users: tuple[User, ...]
    """While there is one, nothing is deleted."""
    running: tuple[str, ...]
    """Devices that said they run it. They keep what they have; nothing waits for them."""


def _deployments(session: Session, name: str, number: int) -> list[User]:
    row = tables.Deployment
    query = select(row).where(
        row.model == name, row.version == number, col(row.cancelled_at).is_(None)
    )
    found = session.exec(query.order_by(col(row.sequence)))
    rows = [*found, *candidates.users(session, name, number)]
    return [User("deployment", each.id, each.name, f"{name}:{number}") for each in rows]


def _aliases(session: Session, name: str, number: int) -> list[User]:
    row = tables.Alias
    query = select(row).where(row.model == name, row.version == number)
    found = session.exec(query.order_by(col(row.name)))
    return [User("alias", f"{name}@{each.name}", "", f"{name}:{number}") for each in found]


def _ensembles(session: Session, name: str, number: int) -> list[User]:
    row, use = tables.Version, tables.BundleUse
    query = (
        select(row)
        .join(use, col(use.bundle) == col(row.bundle))
        .where(use.model == name, use.version == number)
    )
    found = session.exec(query.order_by(col(row.model), col(row.number)))
    return [
        User("ensemble", f"{each.model}:{each.number}", "", f"{name}:{number}") for each in found
    ]


def _services(session: Session, name: str, number: int) -> list[User]:
    """Return services of which a revision runs, or is what they would go back to."""
    found = traffic.users(session, name, number)
    return [User("service", service, each, f"{name}:{number}") for service, each in found]


USERS: Sequence[Callable[[Session, str, int], list[User]]] = (
    _deployments,
    _services,
    _aliases,
    _ensembles,
)
"""Whoever may need a version, by name and number."""


def usage(session: Session, row: tables.Version) -> Usage:
    """Return who needs a version."""
    users = [user for find in USERS for user in find(session, row.model, row.number)]
    run = tables.Run
    running = select(run.device).where(
        run.model == row.model, run.version == row.number, col(run.until_at).is_(None)
    )
    return Usage(tuple(users), tuple(sorted(set(session.exec(running)))))


def usage_of_model(session: Session, name: str) -> Usage:
    """Return who else needs any version of a model; raise NotFoundError if there is none."""
    models.get(session, name)
    found = [usage(session, row) for row in _all(session, name)]
    users = tuple(
        user
        for each in found
        for user in each.users
        if not (user.kind == "ensemble" and user.id.startswith(f"{name}:"))
    )
    return Usage(users, tuple(sorted({device for each in found for device in each.running})))


def delete_version(session: Session, row: tables.Version, *, actor: str, now: float) -> Usage:
    """Forget a version; raise StillUsedError, which lists them, while something needs it.

    Its number is never given again. History, telemetry and lineage stay.
    """
    used = usage(session, row)
    if used.users:
        raise StillUsedError(f"{row.model}:{row.number}", tuple(map(str, used.users)))
    model = models.get(session, row.model)
    _drop(session, row, actor=actor, now=now)
    descriptions.touch(session, model, now=now)
    catalogue.leave(session, model, row.number)
    return used


def delete_model(session: Session, name: str, *, actor: str, now: float) -> Usage:
    """Forget a model and all its versions; raise StillUsedError while something needs one."""
    row = models.get(session, name)
    used = usage_of_model(session, name)
    if used.users:
        raise StillUsedError(name, tuple(f"{user}: {user.version}" for user in used.users))
    for version in _all(session, name):
        _drop(session, version, actor=actor, now=now)
    catalogue.leave_model(session, name)
    session.exec(delete(tables.Card).where(col(tables.Card.model) == name))
    row.description, row.tags, row.meta, row.deleted_at = "", {}, {}, now
    descriptions.touch(session, row, now=now)
    events.add(session, at=now, actor=actor, kind="model.deleted", subject=name)
    return used


def _all(session: Session, name: str) -> Sequence[tables.Version]:
    query = select(tables.Version).where(tables.Version.model == name)
    return session.exec(query.order_by(col(tables.Version.number))).all()


def _drop(session: Session, row: tables.Version, *, actor: str, now: float) -> None:
    card = session.get(tables.Card, (row.model, row.number))
    if card is not None:
        session.delete(card)
    session.delete(row)
    session.flush()
    _drop_bundle(session, row.bundle)
    events.add(
        session,
        at=now,
        actor=actor,
        kind="version.deleted",
        subject=f"{row.model}:{row.number}",
        data={"bundle": row.bundle},
    )


def _drop_bundle(session: Session, bundle: str) -> None:
    """Forget a bundle that no version has; its blobs are then nobody's, for the sweep to find."""
    if session.exec(select(tables.Version).where(tables.Version.bundle == bundle)).first():
        return
    for table in (tables.BundleBlob, tables.BundleUse):
        session.exec(delete(table).where(col(table.bundle) == bundle))
    session.exec(delete(tables.Bundle).where(col(tables.Bundle.digest) == bundle))
