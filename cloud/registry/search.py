"""Searches: queries to SQL, and their results in pages.

A version is looked at with its model's tags, metadata and texts; a model as its newest version.
Pages go on behind the last row seen, by its sort key and then by name and number, so that none is
shown twice and none left out that was there all the time, whatever is registered meanwhile.
"""

import base64
import json
import operator
from dataclasses import dataclass
from typing import Any as Anything

import msgspec
import sqlalchemy as sa
from sqlmodel import Session, col, select

from cloud import tables
from cloud.registry import query_reader
from cloud.registry.queries import All, Any, Condition, Not, Operator, Query
from runtime.errors import InvalidError

MAX_CURSOR_CHARS = 512
SORTS = ("name", "version", "created_at", "updated_at", "size_bytes")
"""Upwards; with "-" before them downwards."""

Clause = Anything
"""A condition of SQLAlchemy; its own types are too many to name."""

_entry, _fact = tables.SearchEntry, tables.SearchFact
_COLUMNS: dict[str, Anything] = {
    "name": col(_entry.model),
    "version": col(_entry.version),
    "created_at": col(_entry.created_at),
    "updated_at": col(_entry.updated_at),
    "size_bytes": col(_entry.size_bytes),
}
_ORDERS = {
    Operator.BELOW: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.ABOVE: operator.gt,
    Operator.AT_LEAST: operator.ge,
}
_LAST_CHAR = chr(0x10FFFF)


@dataclass(frozen=True)
class Wanted:
    """What to look for."""

    query: str = ""
    """See cloud.registry.query_reader."""
    sort: str = "name"
    limit: int = 50
    cursor: str | None = None
    """`next` of the page before, of the same search."""


@dataclass(frozen=True)
class Found:
    """A page of a search."""

    versions: tuple[tuple[str, int], ...]
    """Model and number; number 0: a model without versions."""
    next: str | None
    """The cursor of the page behind it; None: there is none."""


def versions(session: Session, wanted: Wanted) -> Found:
    """Return a page of versions; raises InvalidError for what cannot be read."""
    return _page(session, wanted, col(_entry.version) > 0)


def models(session: Session, wanted: Wanted) -> Found:
    """Return a page of models, each by its newest version; raises InvalidError as `versions`."""
    return _page(session, wanted, col(_entry.newest))


def _statement(wanted: Wanted, among: Clause) -> sa.Select[Anything]:
    """Return the SQL of a search, for one row more than a page has."""
    columns, down = _order(wanted.sort)
    query = sa.select(*columns, col(_entry.model), col(_entry.version)).where(among)
    condition = _compile(query_reader.parse(wanted.query))
    if condition is not None:
        query = query.where(condition)
    if wanted.cursor is not None:
        behind = sa.tuple_(*map(sa.literal, _read_cursor(wanted)))
        row = sa.tuple_(*columns)
        query = query.where(row < behind if down else row > behind)
    ordered = [column.desc() if down else column.asc() for column in columns]
    return query.order_by(*ordered).limit(wanted.limit + 1)


def _page(session: Session, wanted: Wanted, among: Clause) -> Found:
    rows = session.connection().execute(_statement(wanted, among)).all()
    shown = rows[: wanted.limit]
    following = _cursor(wanted.sort, shown[-1][:-2]) if len(rows) > wanted.limit else None
    return Found(tuple((row[-2], row[-1]) for row in shown), following)


def _order(sort: str) -> tuple[list[Anything], bool]:
    """Return the columns of an order, ties broken by name and number, and whether it goes down."""
    key = sort.removeprefix("-")
    if key not in SORTS:
        raise InvalidError("sort", sort, f"give one of {', '.join(SORTS)}, or -{SORTS[2]}")
    names = list(dict.fromkeys([key, "name", "version"]))
    return [_COLUMNS[name] for name in names], sort.startswith("-")


def _cursor(sort: str, values: Anything) -> str:
    text = json.dumps([sort, *values], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(wanted: Wanted) -> list[Anything]:
    """Return the values behind which to go on; raise InvalidError for a foreign cursor."""
    text = wanted.cursor or ""
    try:
        plain = msgspec.json.decode(
            base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        )
    except (ValueError, RecursionError):
        plain = None
    columns, _down = _order(wanted.sort)
    kinds = [str if column is _COLUMNS["name"] else (int, float) for column in columns]
    good = (
        isinstance(plain, list)
        and plain[:1] == [wanted.sort]
        and len(plain) == len(kinds) + 1
        and all(
            isinstance(value, kind) and not isinstance(value, bool)
            for value, kind in zip(plain[1:], kinds, strict=True)
        )
    )
    if not good:
        raise InvalidError("cursor", text, "send the `next` of the page before, and the same sort")
    return list(plain[1:])


def _compile(query: Query) -> Clause | None:
    """Return a query as a condition that is never NULL; None for everything."""
    match query:
        case All(()):
            return None
        case All(parts):
            return sa.and_(*(_known(part) for part in parts))
        case Any(parts):
            return sa.or_(*(_known(part) for part in parts))
        case Not(part):
            return sa.not_(_known(part))
        case Condition():
            return _condition(query)


def _known(query: Query) -> Clause:
    found = _compile(query)
    return sa.true() if found is None else found


def _condition(condition: Condition) -> Clause:
    if condition.field == "latest":
        return col(_entry.newest)
    if condition.field == "text":
        return _of_text(next(iter(condition.values)))
    if condition.field in _COLUMNS:
        numbers = condition.field != "name"
        return _compared(_COLUMNS[condition.field], None, condition, numbers=numbers)
    value, number = col(_fact.value), col(_fact.number)
    found = select(_fact.entry).where(_fact.field == condition.field)
    if condition.operator is not Operator.EXISTS:
        found = found.where(_compared(value, number, condition, numbers=False))
    return col(_entry.id).in_(found)


def _compared(column: Anything, number: Anything, condition: Condition, *, numbers: bool) -> Clause:
    """Return how a column compares; `number` is the one to order by, None: the column itself."""
    values: list[Anything] = sorted(condition.values)
    if condition.operator in _ORDERS:
        ordered = column if number is None else number
        return _ORDERS[condition.operator](ordered, float(values[0]))
    if condition.operator is Operator.CONTAINS:
        return _contains(sa.func.lower(column), values[0])
    if condition.operator is Operator.EXISTS:
        return sa.true()
    values = [float(value) for value in values] if numbers else values
    return column == values[0] if len(values) == 1 else column.in_(values)


def _contains(column: Anything, part: str) -> Clause:
    """Return LIKE with a whole pattern; escapes are slow, so only where there is one."""
    escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    if escaped == part:
        return column.like(f"%{part}%")
    return column.like(f"%{escaped}%", escape="\\")


def _of_text(words: str) -> Clause:
    """Return: every one of these words begins some word of the entry's texts."""
    word, link = tables.SearchWord, tables.SearchEntryText
    found = [
        col(_entry.id).in_(
            select(link.entry)
            .join(word, col(word.text) == col(link.text))
            .where(word.word >= start, word.word < start + _LAST_CHAR)
        )
        for start in words.split(" ")
    ]
    return sa.and_(*found)
