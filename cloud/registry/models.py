"""Models and their numbered versions, looked up. They are made by cloud.registry.registration."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, func, select

from cloud import references, tables
from cloud.errors import NotFoundError
from runtime import digests
from runtime.digests import Digest


@dataclass(frozen=True)
class Detail:
    """A version, and what else is known of it."""

    version: tables.Version
    kind: str
    size_bytes: int
    aliases: tuple[str, ...]
    card: bool
    """Whether it has a model card of its own."""


@dataclass(frozen=True)
class Summary:
    """A model, and what else is known of it."""

    model: tables.Model
    versions: int
    """How many there are."""
    latest: Detail | None
    aliases: dict[str, int]
    card: bool
    """Whether it has a model card of its own."""


def find(session: Session, name: str) -> tables.Model | None:
    """Return a model that was not deleted, or None."""
    row = session.get(tables.Model, name)
    return None if row is None or row.deleted_at is not None else row


def get(session: Session, name: str) -> tables.Model:
    """Return a model; raise NotFoundError if there is none."""
    row = find(session, name)
    if row is None:
        raise NotFoundError("model", name, "see `packhorse models list`")
    return row


def newest(session: Session, name: str) -> tables.Version | None:
    """Return the version with the highest number, or None if there is none."""
    query = select(tables.Version).where(tables.Version.model == name)
    return session.exec(query.order_by(col(tables.Version.number).desc()).limit(1)).first()


def version(
    session: Session, name: str, reference: str | int = references.LATEST
) -> tables.Version:
    """Return a version by its number, an alias or "latest".

    Raises NotFoundError if there is none, InvalidError for what no version can be called.
    """
    number = references.number(str(reference))
    get(session, name)
    if reference == references.LATEST:
        last = newest(session, name)
        if last is None:
            fix = "all were deleted: register one with `packhorse models push`"
            raise NotFoundError("version", f"{name}:{references.LATEST}", fix)
        return last
    if number is None:
        number = alias(session, name, str(reference)).version
    found = session.get(tables.Version, (name, number)) if _fits(number) else None
    if found is None:
        last = newest(session, name)
        fix = "it has none" if last is None else f"the newest is {name}:{last.number}"
        raise NotFoundError("version", f"{name}:{reference}", fix)
    return found


def _fits(number: int) -> bool:
    return number <= references.MAX_NUMBER


def alias(session: Session, name: str, alias: str) -> tables.Alias:
    """Return an alias of a model; raise NotFoundError if there is none."""
    row = session.get(tables.Alias, (name, alias))
    if row is None:
        raise NotFoundError("alias", f"{name}@{alias}", f"see `packhorse models alias list {name}`")
    return row


def aliases(session: Session, name: str) -> Sequence[tables.Alias]:
    """Return the aliases of a model by name; raise NotFoundError if there is no such model."""
    get(session, name)
    query = select(tables.Alias).where(tables.Alias.model == name)
    return session.exec(query.order_by(col(tables.Alias.name))).all()


def versions(session: Session, name: str, *, after: int, limit: int) -> Sequence[tables.Version]:
    """Return up to `limit` versions with numbers above `after`, oldest first."""
    get(session, name)
    query = select(tables.Version).where(
        tables.Version.model == name, col(tables.Version.number) > after
    )
    return session.exec(query.order_by(col(tables.Version.number)).limit(limit)).all()


def detail(session: Session, row: tables.Version) -> Detail:
    """Return what is known of a version."""
    return details(session, [(row.model, row.number)])[row.model, row.number]


def details(session: Session, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Detail]:
    """Return what is known of these versions, by name and number; absent ones are left out."""
    wanted = list(keys)
    row, held, card = tables.Version, tables.Bundle, tables.Card
    named: dict[tuple[str, int], list[str]] = {}
    query = select(tables.Alias).where(_among(tables.Alias.model, tables.Alias.version, wanted))
    for each in session.exec(query.order_by(col(tables.Alias.name))):
        named.setdefault((each.model, each.version), []).append(each.name)
    with_card = select(card.model, card.version).where(_among(card.model, card.version, wanted))
    cards = set(session.exec(with_card))
    rows = session.exec(select(row).where(_among(row.model, row.number, wanted))).all()
    bundles = {each.bundle for each in rows}
    held_rows = session.exec(select(held).where(col(held.digest).in_(bundles)))
    kinds = {each.digest: (each.kind, each.size_bytes) for each in held_rows}
    found = {}
    for version in rows:
        key = (version.model, version.number)
        kind, size_bytes = kinds[version.bundle]
        names = tuple(named.get(key, ()))
        found[key] = Detail(version, kind, size_bytes, names, key in cards)
    return found


def _among(model: Any, number: Any, keys: Sequence[tuple[str, int]]) -> sa.ColumnElement[bool]:
    """Return a condition that every database answers from an index, unlike pairs in a list."""
    numbers: dict[str, list[int]] = {}
    for name, each in keys:
        numbers.setdefault(name, []).append(each)
    of_each = [(col(model) == name) & col(number).in_(some) for name, some in numbers.items()]
    return sa.or_(sa.false(), *of_each)


def summary(session: Session, name: str) -> Summary:
    """Return one model; raise NotFoundError if there is none."""
    get(session, name)
    return summaries(session, [name])[0]


def summaries(session: Session, names: Sequence[str]) -> list[Summary]:
    """Return models, in this order; absent ones are left out."""
    row = tables.Version
    rows = session.exec(select(tables.Model).where(col(tables.Model.name).in_(names)))
    found = {each.name: each for each in rows if each.deleted_at is None}
    counted = session.exec(
        select(row.model, func.count(), func.max(row.number))
        .where(col(row.model).in_(names))
        .group_by(row.model)
    ).all()
    counts = {model: count for model, count, _last in counted}
    latest = {key[0]: each for key, each in details(
        session, [(model, last) for model, _count, last in counted]
    ).items()}  # fmt: skip
    moved = session.exec(select(tables.Alias).where(col(tables.Alias.model).in_(names))).all()
    card = tables.Card
    cards = set(
        session.exec(select(card.model).where(col(card.model).in_(names), card.version == 0))
    )
    return [
        Summary(
            model=found[name],
            versions=counts.get(name, 0),
            latest=latest.get(name),
            aliases={each.name: each.version for each in moved if each.model == name},
            card=name in cards,
        )
        for name in names
        if name in found
    ]


def bundle(session: Session, digest: str) -> tables.Bundle:
    """Return a bundle's row; raise NotFoundError if no version has it."""
    row = session.get(tables.Bundle, digests.parse(digest))
    if row is None:
        raise NotFoundError("bundle", digest)
    return row


def blobs_of(session: Session, bundles: Sequence[str]) -> dict[Digest, int]:
    """Return the sizes in bytes of all blobs that these bundles need, indexes among them."""
    query = select(tables.BundleBlob).where(col(tables.BundleBlob.bundle).in_(bundles))
    return {Digest(row.blob): row.size_bytes for row in session.exec(query)}
