"""Where versions come from: run, data, code, parent; and what came from them.

A version has at most one parent. Lineage outlives its version, so that a chain of parents has no
gap where one was deleted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from cloud import references, tables
from cloud.registry import catalogue, descriptions, events, models, syntax
from runtime.errors import InvalidError

MAX_DEPTH = 64
"""Generations shown upwards and downwards, and checked for loops."""
MAX_DESCENDANTS = 1000
MAX_TEXT_BYTES = 1024
MAX_DATA = 32
MAX_EXTRA = 50
FIELDS = ("run", "code", "data", "parent", "trained_by", "trained_at", "extra")

Key = tuple[str, int]


@dataclass(frozen=True)
class Node:
    """A version in a family tree."""

    model: str
    version: int
    lineage: tables.Lineage | None
    present: bool
    """False: it was deleted."""
    depth: int
    """0: the version asked for; -1: its parent; 1: its children."""


@dataclass(frozen=True)
class Family:
    """A version with its ancestors and descendants."""

    nodes: tuple[Node, ...]
    """The oldest ancestor first, then the version itself, then descendants, children behind
    their parents."""
    truncated: bool
    """There are more than are shown."""


def change(
    session: Session,
    version: tables.Version,
    changes: Mapping[str, Any],
    *,
    actor: str,
    now: float,
    told: bool = True,
) -> None:
    """Say where a version comes from: FIELDS that are named change, None removes.

    `told`: as a change that the history tells; not so for a version that is new. Raises
    InvalidError for a field that does not fit, a parent that does not exist, or a loop of parents;
    NotFoundError for a parent by an alias that does not exist.
    """
    row = session.get(tables.Lineage, (version.model, version.number))
    before = _plain(row)
    if row is None:
        row = tables.Lineage(
            model=version.model, version=version.number, recorded_at=now, recorded_by=actor
        )
    _apply(session, row, changes)
    if _plain(row) == before:
        return
    row.recorded_at, row.recorded_by = now, actor
    session.add(row)
    session.flush()
    catalogue.trace(session, row)
    if told:
        descriptions.touch(session, version, now=now)
        catalogue.describe(session, version)
        subject = f"{version.model}:{version.number}"
        data = {"lineage": _plain(row)}
        kind = "version.updated"
        events.add(session, at=now, actor=actor, kind=kind, subject=subject, data=data)


def of(session: Session, name: str, number: int) -> tables.Lineage | None:
    """Return what is known of where a version comes from."""
    return session.get(tables.Lineage, (name, number))


def family(session: Session, version: tables.Version) -> Family:
    """Return the tree of a version: its parents up to the first, its descendants down."""
    own = (version.model, version.number)
    above = _ancestors(session, own)
    below, more = _descendants(session, own)
    depths = {key: -steps for steps, key in enumerate(above, 1)} | {own: 0} | below
    present = {
        (row.model, row.number)
        for name in {model for model, _number in depths}
        for row in session.exec(select(tables.Version).where(tables.Version.model == name))
        if (row.model, row.number) in depths
    }
    nodes = [
        Node(key[0], key[1], of(session, *key), key in present, depth)
        for key, depth in [
            *((key, depths[key]) for key in reversed(above)),
            (own, 0),
            *below.items(),
        ]
    ]
    return Family(tuple(nodes), more or len(above) == MAX_DEPTH)


def _parent(row: tables.Lineage | None) -> Key | None:
    if row is None or row.parent_model is None or row.parent_version is None:
        return None
    return row.parent_model, row.parent_version


def _ancestors(session: Session, key: Key) -> list[Key]:
    """Return parent, grandparent... of a version."""
    found: list[Key] = []
    parent = _parent(of(session, *key))
    while parent is not None and len(found) < MAX_DEPTH:
        found.append(parent)
        parent = _parent(of(session, *parent))
    return found


def _descendants(session: Session, key: Key) -> tuple[dict[Key, int], bool]:
    """Return the depths of all descendants, each behind its parent; and whether more are left."""
    found: dict[Key, int] = {}
    waiting = [(child, 1) for child in reversed(_children(session, key))]
    while waiting:
        child, depth = waiting.pop()
        if len(found) == MAX_DESCENDANTS or depth > MAX_DEPTH:
            return found, True
        found[child] = depth
        waiting += [(each, depth + 1) for each in reversed(_children(session, child))]
    return found, False


def _children(session: Session, key: Key) -> list[Key]:
    row = tables.Lineage
    query = select(row.model, row.version).where(
        row.parent_model == key[0], row.parent_version == key[1]
    )
    ordered = query.order_by(col(row.model), col(row.version)).limit(MAX_DESCENDANTS + 1)
    return list(session.exec(ordered))


def _apply(session: Session, row: tables.Lineage, changes: Mapping[str, Any]) -> None:
    for field in ("run", "code", "trained_by"):
        if field in changes:
            setattr(row, field, _text(field, changes[field]))
    if "trained_at" in changes:
        row.trained_at = changes["trained_at"]
    if "data" in changes:
        row.data = _data(changes["data"] or ())
    if "extra" in changes:
        row.extra = _extra(row.extra, changes["extra"])
    if "parent" in changes:
        row.parent_model, row.parent_version = _checked_parent(session, row, changes["parent"])


def _checked_parent(
    session: Session, row: tables.Lineage, text: str | None
) -> tuple[str, int] | tuple[None, None]:
    if not text:
        return None, None
    wanted = references.parse(text, "lineage.parent")
    parent = models.version(session, wanted.name, wanted.version)
    own, key = (row.model, row.version), (parent.model, parent.number)
    if own == key or own in _ancestors(session, key):
        raise InvalidError("lineage.parent", text, "a version cannot come from itself")
    if len(_ancestors(session, key)) >= MAX_DEPTH:
        raise InvalidError("lineage.parent", text, f"a line has at most {MAX_DEPTH} generations")
    return key


def _text(field: str, value: str | None) -> str | None:
    if value is None or value == "":
        return None
    if len(value.encode("utf-8", "replace")) > MAX_TEXT_BYTES or "\0" in value:
        raise InvalidError(f"lineage.{field}", value[:80], f"use at most {MAX_TEXT_BYTES} bytes")
    return value


def _data(given: Sequence[Mapping[str, str | None]]) -> list[dict[str, Any]]:
    if len(given) > MAX_DATA:
        raise InvalidError("lineage.data", f"{len(given)} sets", f"name at most {MAX_DATA}")
    return [{key: _text("data", value) for key, value in each.items() if value} for each in given]


def _extra(present: Mapping[str, str], changes: Mapping[str, str | None] | None) -> dict[str, str]:
    if changes is None:
        return {}
    merged = {key: _text(f"extra.{key}", value) for key, value in {**present, **changes}.items()}
    for key in merged:
        if not syntax.KEY.fullmatch(key):
            raise InvalidError("lineage.extra", key, "use letters, digits, '.', '_', '/', '-'")
    if len(merged) > MAX_EXTRA:
        raise InvalidError("lineage.extra", f"{len(merged)} keys", f"use at most {MAX_EXTRA}")
    return {key: value for key, value in sorted(merged.items()) if value is not None}


def _plain(row: tables.Lineage | None) -> dict[str, Any]:
    """Return the fields that are set, as the history tells them."""
    if row is None:
        return {}
    parent = _parent(row)
    found = {
        "run": row.run,
        "code": row.code,
        "data": list(row.data),
        "parent": None if parent is None else f"{parent[0]}:{parent[1]}",
        "trained_by": row.trained_by,
        "trained_at": row.trained_at,
        "extra": dict(row.extra),
    }
    return {field: value for field, value in found.items() if value}
