"""What became of each encoding, in the database: the maker writes it, the responder reads it."""

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlmodel import Session, col, select

from cloud import tables
from cloud.storage.encodings import Recipe
from runtime.digests import Digest

_MOST_IN_ONE = 500
"""Databases bound how many values a statement may name."""


class State(enum.Enum):
    """Where an encoding is."""

    MAKING = "making"
    READY = "ready"
    USELESS = "useless"
    """It saves too little, and is not kept."""
    FAILED = "failed"
    EVICTED = "evicted"
    """The cache had no room for it; made again only if a device asks."""


@dataclass(frozen=True)
class Entry:
    """What is known of one encoding."""

    state: State
    size_bytes: int
    memory_bytes: int
    """What decoding it takes, beside the decoder itself."""
    tries: int
    made_at: float
    used_at: float


def entries(session: Session, blobs: Iterable[Digest]) -> dict[Recipe, Entry]:
    """Return what is known of the encodings of these blobs."""
    found, names = {}, list(blobs)
    for start in range(0, len(names), _MOST_IN_ONE):
        some = names[start : start + _MOST_IN_ONE]
        query = select(tables.Encoding).where(col(tables.Encoding.blob).in_(some))
        for row in session.exec(query):
            found[_recipe(row)] = Entry(
                State(row.state),
                row.size_bytes,
                row.memory_bytes,
                row.tries,
                row.made_at,
                row.used_at,
            )
    return found


def begin(session: Session, recipe: Recipe, *, now: float) -> int:
    """Note that an encoding is about to be made; return for the how-manieth time."""
    row = _row(session, recipe, now)
    row.state, row.tries, row.made_at, row.used_at = State.MAKING.value, row.tries + 1, now, now
    session.add(row)
    return row.tries


def undo(session: Session, recipe: Recipe) -> None:
    """Take `begin` back: it was interrupted by nothing that the encoding is to blame for."""
    row = session.get(tables.Encoding, _key(recipe))
    if row is not None:
        row.state, row.tries = State.FAILED.value, row.tries - 1
        session.add(row)


def end(session: Session, recipe: Recipe, entry: Entry, *, reason: str = "") -> None:
    """Note what became of it; how often it was tried is known."""
    row = _row(session, recipe, entry.made_at)
    row.state, row.reason = entry.state.value, reason[:1000]
    row.size_bytes, row.memory_bytes = entry.size_bytes, entry.memory_bytes
    session.add(row)


def used(session: Session, times: Mapping[Recipe, float]) -> None:
    """Note when encodings were last offered."""
    for recipe, at in times.items():
        row = session.get(tables.Encoding, _key(recipe))
        if row is None:  # made on demand: all that is known is that it is there
            row = _row(session, recipe, at)
            row.state, row.made_at = State.READY.value, 0.0
        row.used_at = max(row.used_at, at)
        session.add(row)


def forget(session: Session, recipes: Collection[Recipe], state: State) -> None:
    """Note that encodings are not there any more."""
    for recipe in recipes:
        row = session.get(tables.Encoding, _key(recipe))
        if row is not None:
            row.state = state.value
            session.add(row)


def _row(session: Session, recipe: Recipe, now: float) -> tables.Encoding:
    blob, encoding, base = _key(recipe)
    return session.get(tables.Encoding, (blob, encoding, base)) or tables.Encoding(
        blob=blob, encoding=encoding, base=base, state=State.MAKING.value, made_at=now, used_at=now
    )


def _key(recipe: Recipe) -> tuple[str, str, str]:
    return recipe.blob, recipe.encoding, recipe.base or ""


def _recipe(row: tables.Encoding) -> Recipe:
    return Recipe(Digest(row.blob), row.encoding, Digest(row.base) if row.base else None)
