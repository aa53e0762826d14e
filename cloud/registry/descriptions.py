"""What people say of models and versions: description, tags, metadata, model card.

All of it can be given at registration or later; a card may also come in the bundle itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session

from cloud import tables
from cloud.errors import NotFoundError
from cloud.registry import catalogue, events, models, syntax
from runtime import digests
from runtime.errors import InvalidError

MAX_DESCRIPTION_CHARS = 4096
MAX_CARD_BYTES = 256 << 10
MAX_TAGS = 100
MAX_TAG_BYTES = 256
MAX_METADATA = 200
MAX_METADATA_BYTES = 2048
"""Of one value: an index of the database holds it."""
MAX_METADATA_TOTAL_BYTES = 64 << 10


@dataclass(frozen=True)
class Changes:
    """What to say from now on. What is None, or a key that is not named, stays as it is."""

    description: str | None = None
    """"" removes it."""
    tags: Mapping[str, str | None] = field(default_factory=dict)
    """None removes the tag."""
    metadata: Mapping[str, str | None] = field(default_factory=dict)
    """None removes the key."""
    card: str | None = None
    """Markdown; "" removes it."""


def update_model(
    session: Session, name: str, changes: Changes, *, actor: str, now: float
) -> tables.Model:
    """Say something else of a model; raises NotFoundError, InvalidError."""
    row = models.get(session, name)
    told = _apply(session, row, 0, changes)
    if told:
        touch(session, row, now=now)
        catalogue.describe_model(session, row)
        events.add(session, at=now, actor=actor, kind="model.updated", subject=name, data=told)
    return row


def update_version(
    session: Session, row: tables.Version, changes: Changes, *, actor: str, now: float
) -> tables.Version:
    """Say something else of a version; raises InvalidError."""
    told = _apply(session, row, row.number, changes)
    if told:
        touch(session, row, now=now)
        catalogue.describe(session, row)
        subject = f"{row.model}:{row.number}"
        kind = "version.updated"
        events.add(session, at=now, actor=actor, kind=kind, subject=subject, data=told)
    return row


def touch(session: Session, row: tables.Model | tables.Version, *, now: float) -> None:
    """Note that something of a model or version has changed."""
    row.revision += 1
    row.updated_at = now
    session.add(row)
    session.flush()


def describe(session: Session, row: tables.Version, changes: Changes) -> None:
    """Give a version that is new what is said of it; raises InvalidError."""
    _apply(session, row, row.number, changes)
    session.add(row)
    session.flush()


def card(session: Session, name: str, number: int) -> str:
    """Return the model card of a version, or else of its model; raise NotFoundError without."""
    for key in ((name, number), (name, 0)):
        row = session.get(tables.Card, key)
        if row is not None:
            return row.text
    about = f"{name}:{number}" if number else name
    fix = "give one with `packhorse models set --card FILE`, or `card:` in bundle.yaml"
    raise NotFoundError("card", f"of {about}", fix)


def check(changes: Changes) -> None:
    """Raise InvalidError for what may not be said."""
    _check_text("description", changes.description or "", MAX_DESCRIPTION_CHARS * 4)
    if len(changes.description or "") > MAX_DESCRIPTION_CHARS:
        fix = f"use at most {MAX_DESCRIPTION_CHARS} characters; a card holds more"
        raise InvalidError("description", f"{len(changes.description or '')} characters", fix)
    _check_text("card", changes.card or "", MAX_CARD_BYTES)
    for kind, pairs, limit in (
        ("tags", changes.tags, MAX_TAG_BYTES),
        ("metadata", changes.metadata, MAX_METADATA_BYTES),
    ):
        for key, value in pairs.items():
            if not syntax.KEY.fullmatch(key):
                fix = "use a letter or digit, then up to 62 letters, digits, '.', '_', '/', '-'"
                raise InvalidError(f"{kind}.key", key, fix)
            _check_text(f"{kind}.{key}", value or "", limit)


def _check_text(where: str, text: str, limit_bytes: int) -> None:
    size = len(text.encode("utf-8", "replace"))
    if size > limit_bytes:
        raise InvalidError(where, f"{size} bytes", f"use at most {limit_bytes}")
    if "\0" in text:
        raise InvalidError(where, text[:40], "leave out NUL characters")


def _apply(
    session: Session, row: tables.Model | tables.Version, number: int, changes: Changes
) -> dict[str, Any]:
    """Change a row; return what is different now, for the history."""
    check(changes)
    told: dict[str, Any] = {}
    if changes.description is not None and changes.description != row.description:
        row.description = told["description"] = changes.description
    tags = _merged("tags", row.tags, changes.tags, MAX_TAGS)
    meta = _merged("metadata", row.meta, changes.metadata, MAX_METADATA)
    if tags != row.tags:
        told["tags"] = _difference(row.tags, tags)
        row.tags = tags
    if meta != row.meta:
        told["metadata"] = _difference(row.meta, meta)
        row.meta = meta
    model = row.name if isinstance(row, tables.Model) else row.model
    if changes.card is not None and _set_card(session, model, number, changes.card):
        told["card"] = digests.of_bytes(changes.card.encode()) if changes.card else None
    return told


def _merged(
    kind: str, present: Mapping[str, str], changes: Mapping[str, str | None], most: int
) -> dict[str, str]:
    merged = {**present, **changes}
    made = {key: value for key, value in sorted(merged.items()) if value is not None}
    total = sum(len(key) + len(value.encode("utf-8", "replace")) for key, value in made.items())
    if len(made) > most:
        raise InvalidError(kind, f"{len(made)} keys", f"use at most {most}")
    if total > MAX_METADATA_TOTAL_BYTES:
        raise InvalidError(kind, f"{total} bytes", f"use at most {MAX_METADATA_TOTAL_BYTES} in all")
    return made


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str | None]:
    keys = sorted(before.keys() | after.keys())
    return {key: after.get(key) for key in keys if before.get(key) != after.get(key)}


def _set_card(session: Session, model: str, number: int, text: str) -> bool:
    """Set or remove (text "") a card; say whether that changed anything."""
    row = session.get(tables.Card, (model, number))
    if (row.text if row is not None else "") == text:
        return False
    if row is None:
        session.add(tables.Card(model=model, version=number, text=text))
    elif text:
        row.text = text
        session.add(row)
    else:
        session.delete(row)
    session.flush()
    return True
