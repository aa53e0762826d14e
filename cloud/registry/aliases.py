"""Aliases: names of versions that move, such as champion and canary."""

from sqlmodel import Session

from cloud import references, tables
from cloud.registry import catalogue, descriptions, events, models
from runtime.errors import InvalidError

MAX_ALIASES = 100


def move(
    session: Session, name: str, alias: str, reference: str | int, *, actor: str, now: float
) -> tables.Alias:
    """Have an alias mean this version from now on; that it means it already is fine.

    Raises InvalidError for what no alias can be called, NotFoundError without such a version.
    """
    references.check_alias(alias)
    version = models.version(session, name, reference)
    row = session.get(tables.Alias, (name, alias))
    before = None if row is None else row.version
    if row is not None and before == version.number:
        return row
    if row is None:
        if len(models.aliases(session, name)) >= MAX_ALIASES:
            raise InvalidError("alias", alias, f"a model has at most {MAX_ALIASES}")
        row = tables.Alias(model=name, name=alias, version=0, moved_at=now, moved_by="", revision=0)
    row.version, row.moved_at, row.moved_by = version.number, now, actor
    row.revision += 1
    session.add(row)
    _note(session, name, alias, before, version.number, actor=actor, now=now)
    return row


def remove(session: Session, name: str, alias: str, *, actor: str, now: float) -> None:
    """Forget an alias; raise NotFoundError if there is none."""
    models.get(session, name)
    row = models.alias(session, name, alias)
    session.delete(row)
    _note(session, name, alias, row.version, None, actor=actor, now=now)


def _note(
    session: Session,
    name: str,
    alias: str,
    before: int | None,
    after: int | None,
    *,
    actor: str,
    now: float,
) -> None:
    session.flush()
    catalogue.name(session, name, alias, after)
    descriptions.touch(session, models.get(session, name), now=now)
    for number in {before, after} - {None}:
        version = session.get(tables.Version, (name, number))
        if version is not None:
            descriptions.touch(session, version, now=now)
            catalogue.describe(session, version)
    events.add(
        session,
        at=now,
        actor=actor,
        kind="alias.removed" if after is None else "alias.moved",
        subject=f"{name}@{alias}",
        data={"model": name, "alias": alias, "from": before, "to": after},
    )
