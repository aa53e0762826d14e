"""What searches look through, kept in step with models and versions: tables.Search*.

A version has facts (its kind, its tensors, its tags and those of its model, its aliases...) and
texts (descriptions and cards). Whoever changes one of those calls the function here that is named
after it, in the same transaction. A model without versions has an entry of its own, number 0.

Facts are rows, not JSON, and words are rows, not an engine's own full-text index: so every
condition is an index look-up and means the same on every database.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, col, delete, select, update

from cloud import tables
from cloud.registry import queries
from runtime.bundle.index import Index, TensorSpec

MAX_WORDS = 5000
"""Of one text; what comes behind is not found."""
CHUNK = 500
"""How many values one statement names."""

Facts = Iterable[tuple[str, str]]


def of_index(index: Index) -> set[tuple[str, str]]:
    """Return the facts that a bundle tells by itself, as (field, value). Pure."""
    facts = {("kind", str(index.kind))}
    facts |= {("uses", f"{each.model}:{each.version}") for each in index.uses}
    facts |= _of_tensors("input", index.signature.inputs)
    facts |= _of_tensors("output", index.signature.outputs)
    return facts


def _of_tensors(side: str, specs: Sequence[TensorSpec]) -> set[tuple[str, str]]:
    """Return type, shape and both together, under the tensor's name and under none."""
    found = set()
    for spec in specs:
        shape = f"[{','.join(map(str, spec.shape))}]"
        for value in (spec.datatype, shape, f"{spec.datatype}{shape}"):
            found |= {(side, value), (f"{side}.{spec.name}", value)}
    return found


def enter(session: Session, row: tables.Version, index: Index, *, size_bytes: int) -> None:
    """Have a version found; what others said of it follows by `describe` and the rest."""
    _forget(session, _number_is(row.model, 0))
    highest = session.exec(
        select(sa.func.max(tables.SearchEntry.version)).where(tables.SearchEntry.model == row.model)
    ).one()
    newest = highest is None or row.number > highest
    if newest:
        _unset_newest(session, row.model)
    entry = _add_entry(
        session,
        tables.SearchEntry(
            model=row.model,
            version=row.number,
            newest=newest,
            created_at=row.created_at,
            updated_at=row.updated_at,
            size_bytes=size_bytes,
        ),
    )
    facts = {*of_index(index), ("bundle", row.bundle), ("created_by", row.created_by)}
    _add_facts(session, entry, facts)
    describe(session, row)


def enter_model(session: Session, row: tables.Model) -> None:
    """Have a model found that has no version."""
    entry = tables.SearchEntry(
        model=row.name,
        version=0,
        newest=True,
        created_at=row.created_at,
        updated_at=row.updated_at,
        size_bytes=0,
    )
    _inherit(session, _add_entry(session, entry), row, {})


def describe(session: Session, row: tables.Version) -> None:
    """Bring tags, metadata, description and card of a version up to date."""
    entry = _entry(session, row.model, row.number)
    if entry is None:
        return
    session.exec(
        update(tables.SearchEntry)
        .where(col(tables.SearchEntry.id) == entry)
        .values(updated_at=row.updated_at)
    )
    own = _said(row.tags, row.meta)
    _drop_facts(session, entry, "tag.", "metadata.")
    _add_facts(session, entry, own.items())
    _unlink(session, col(tables.SearchEntryText.entry) == entry)
    _link(session, [entry], _texts(session, row.model, row.number, row.description))
    model = session.get(tables.Model, row.model)
    assert model is not None, "a version has a model"
    _inherit(session, entry, model, own)


def describe_model(session: Session, row: tables.Model) -> None:
    """Bring tags, metadata, description and card of a model up to date, for all its versions."""
    entry, fact = tables.SearchEntry, tables.SearchFact
    of_model = select(entry.id).where(entry.model == row.name)
    session.exec(update(entry).where(_number_is(row.name, 0)).values(updated_at=row.updated_at))
    inherited = col(fact.entry).in_(of_model) & col(fact.inherited)
    session.exec(delete(fact).where(inherited))
    for field, value in _said(row.tags, row.meta).items():
        own = select(fact.entry).where(fact.entry == entry.id, fact.field == field).exists()
        number = sa.literal(queries.number(value), sa.Float)
        given = (sa.literal(field), sa.literal(value), number, sa.true())
        source = sa.select(col(entry.id), *given).where(col(entry.model) == row.name, ~own)
        columns = ["entry", "field", "value", "number", "inherited"]
        session.connection().execute(sa.insert(fact).from_select(columns, source))
    link = tables.SearchEntryText
    _unlink(session, col(link.entry).in_(of_model) & col(link.inherited))
    entries = [each for each in session.exec(of_model) if each is not None]
    texts = _texts(session, row.name, 0, f"{row.name} {row.description}")
    _link(session, entries, texts, inherited=True)


def name(session: Session, model: str, alias: str, number: int | None) -> None:
    """Have an alias found at this version and no other; None: at none."""
    fact = tables.SearchFact
    of_model = select(tables.SearchEntry.id).where(tables.SearchEntry.model == model)
    session.exec(
        delete(fact).where(
            col(fact.field) == "alias", col(fact.value) == alias, col(fact.entry).in_(of_model)
        )
    )
    entry = None if number is None else _entry(session, model, number)
    if entry is not None:
        _add_facts(session, entry, [("alias", alias)])


def trace(session: Session, row: tables.Lineage) -> None:
    """Bring a version's lineage up to date."""
    entry = _entry(session, row.model, row.version)
    if entry is None:
        return
    _drop_facts(session, entry, "lineage.")
    plain = {"run": row.run, "code": row.code, "trained_by": row.trained_by}
    facts = {(f"lineage.{key}", value) for key, value in plain.items() if value}
    facts |= {("lineage.data", value) for each in row.data for value in each.values() if value}
    facts |= {(f"lineage.extra.{key}", value) for key, value in row.extra.items()}
    if row.parent_model is not None:
        facts.add(("lineage.parent", f"{row.parent_model}:{row.parent_version}"))
    _add_facts(session, entry, facts)


def leave(session: Session, model: tables.Model, number: int) -> None:
    """Have a version found no more; the one before it is the newest then."""
    _forget(session, _number_is(model.name, number))
    entry = tables.SearchEntry
    left = session.exec(
        select(entry).where(entry.model == model.name).order_by(col(entry.version).desc()).limit(1)
    ).first()
    if left is None:
        enter_model(session, model)
    elif not left.newest:
        left.newest = True
        session.add(left)
        session.flush()


def leave_model(session: Session, model: str) -> None:
    """Have nothing of a model found."""
    _forget(session, col(tables.SearchEntry.model) == model)


def _number_is(model: str, number: int) -> Any:
    entry = tables.SearchEntry
    return (col(entry.model) == model) & (col(entry.version) == number)


def _entry(session: Session, model: str, number: int) -> int | None:
    return session.exec(select(tables.SearchEntry.id).where(_number_is(model, number))).first()


def _add_entry(session: Session, entry: tables.SearchEntry) -> int:
    session.add(entry)
    session.flush()
    assert entry.id is not None, "flushed"
    return entry.id


def _unset_newest(session: Session, model: str) -> None:
    entry = tables.SearchEntry
    session.exec(
        update(entry).where(col(entry.model) == model, col(entry.newest)).values(newest=False)
    )


def _forget(session: Session, condition: Any) -> None:
    """Drop entries; their facts go with them by themselves, texts that nobody has by `_unlink`."""
    ids = select(tables.SearchEntry.id).where(condition)
    _unlink(session, col(tables.SearchEntryText.entry).in_(ids))
    session.exec(delete(tables.SearchEntry).where(condition))


def _said(tags: Mapping[str, str], meta: Mapping[str, str]) -> dict[str, str]:
    """Return what people gave keys to, as facts."""
    found = {f"tag.{key}": value for key, value in tags.items()}
    return found | {f"metadata.{key}": value for key, value in meta.items()}


def _inherit(session: Session, entry: int, model: tables.Model, own: Mapping[str, str]) -> None:
    """Give an entry its model's tags, metadata and texts, where it has none of its own."""
    said = _said(model.tags, model.meta)
    facts = [(field, value) for field, value in said.items() if field not in own]
    _add_facts(session, entry, facts, inherited=True)
    texts = _texts(session, model.name, 0, f"{model.name} {model.description}")
    _link(session, [entry], texts, inherited=True)


def _add_facts(session: Session, entry: int, facts: Facts, *, inherited: bool = False) -> None:
    rows = [
        {
            "entry": entry,
            "field": field,
            "value": value,
            "number": queries.number(value),
            "inherited": inherited,
        }
        for field, value in facts
    ]
    if rows:
        session.connection().execute(sa.insert(tables.SearchFact), rows)


def _drop_facts(session: Session, entry: int, *prefixes: str) -> None:
    fact = tables.SearchFact
    begins = [col(fact.field).startswith(prefix, autoescape=True) for prefix in prefixes]
    session.exec(delete(fact).where(col(fact.entry) == entry, sa.or_(*begins)))


def _texts(session: Session, model: str, number: int, description: str) -> set[int]:
    """Return the ids of what a person wrote about a version, or (0) a model; they are made."""
    card = session.get(tables.Card, (model, number))
    found = {_text(session, description), _text(session, "" if card is None else card.text)}
    return {each for each in found if each is not None}


def _text(session: Session, text: str) -> int | None:
    """Return the id of a text by its words, made if need be; None if it has none."""
    words = queries.words(text)[:MAX_WORDS]
    if not words:
        return None
    digest = hashlib.sha256(" ".join(sorted(words)).encode()).hexdigest()
    table = tables.SearchText
    present = session.exec(select(table.id).where(table.sha256 == digest)).first()
    if present is not None:
        return present
    row = table(sha256=digest)
    session.add(row)
    session.flush()
    rows = [{"word": word, "text": row.id} for word in words]
    session.connection().execute(sa.insert(tables.SearchWord), rows)
    return row.id


def _link(
    session: Session, entries: Sequence[int], texts: Iterable[int], *, inherited: bool = False
) -> None:
    rows = [
        {"entry": entry, "text": text, "inherited": inherited}
        for entry in entries
        for text in texts
    ]
    if rows:
        session.connection().execute(sa.insert(tables.SearchEntryText), rows)


def _unlink(session: Session, condition: Any) -> None:
    """Drop links of texts, and the texts that have no link left."""
    link, text = tables.SearchEntryText, tables.SearchText
    ids = sorted(set(session.exec(select(link.text).where(condition))))
    session.exec(delete(link).where(condition))
    linked = select(link.text).where(link.text == text.id).exists()
    for start in range(0, len(ids), CHUNK):
        some = ids[start : start + CHUNK]
        session.exec(delete(text).where(col(text.id).in_(some), ~linked))
