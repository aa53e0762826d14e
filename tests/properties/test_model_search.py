"""Searches give what a plain evaluation of the query over the rows gives, after any changes."""

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any as Anything

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import Session, select

from cloud import database, tables
from cloud.errors import NotFoundError, StillUsedError
from cloud.registry import aliases, deletion, descriptions, lineage, models, registration, search
from cloud.registry.descriptions import Changes
from cloud.registry.queries import All, Any, Condition, Not, Operator, Query
from cloud.registry.query_reader import parse
from cloud.registry.registration import Said, Upload
from cloud.registry.search import SORTS, Wanted
from runtime import digests
from runtime.bundle.index import FileEntry, Index, Signature, TensorSpec
from runtime.errors import InvalidError
from tests.support.registries import Stores

NAMES = ("pump", "fan-old")
KEYS = ("task", "team", "acc")
VALUES = ("anomaly", "Vision", "0.5", "0.9", "-1e3", "a b", "ünï", "50%", "_x")
WORDS = ("vibration", "Vibrations", "OLD", "motor-3", "STRAßE", "x_y", "")
ALIASES = ("champion", "canary")
SOME = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass
class World:
    """One transaction in which a model's life is played; it is never committed."""

    session: Session
    clock: Iterator[int] = field(default_factory=lambda: itertools.count(1_000))
    signatures: dict[str, Signature] = field(default_factory=dict)
    """By bundle: they are in no table."""

    def moment(self) -> float:
        return float(next(self.clock))


Step = Callable[[World], None]
tags = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=2)
changes = st.dictionaries(
    st.sampled_from(KEYS), st.one_of(st.none(), st.sampled_from(VALUES)), max_size=2
)
said = st.builds(
    Changes,
    description=st.one_of(st.none(), st.sampled_from(WORDS)),
    tags=changes,
    metadata=changes,
    card=st.one_of(st.none(), st.sampled_from(WORDS)),
)
tensors = st.lists(
    st.builds(
        TensorSpec,
        st.sampled_from(["x", "y", "in put"]),
        st.sampled_from(["FP32", "INT8"]),
        st.sampled_from([(-1, 2), (1, 2), ()]),
    ),
    max_size=2,
    unique_by=lambda spec: spec.name,
).map(tuple)


@st.composite
def registering(draw: st.DrawFn) -> Step:
    name, tagged, meta = draw(st.sampled_from(NAMES)), draw(tags), draw(tags)
    inputs, outputs, given_words = draw(tensors), draw(tensors), draw(said)
    actor = draw(st.sampled_from(["key:ann", "key:bob"]))

    def step(world: World) -> None:
        content = str(len(world.signatures)).encode()
        index = Index(
            format=1,
            name=name,
            kind="onnx",
            model="m",
            files=(FileEntry("m", len(content) * 1000, digests.of_bytes(content)),),
            signature=Signature(inputs, outputs),
            tags=tagged,
            metadata=meta,
        )
        world.signatures[digests.of_bytes(content)] = index.signature
        upload = Upload(index, digests.of_bytes(content), 10)
        now = world.moment()
        registration.register(world.session, upload, Said(given_words), actor=actor, now=now)

    return step


def about(name: str, act: Callable[[World, Anything], None]) -> Step:
    """Do something with the newest version of a model, if there is one."""

    def step(world: World) -> None:
        with suppress(NotFoundError, StillUsedError, InvalidError):
            act(world, models.version(world.session, name))

    return step


@st.composite
def changing(draw: st.DrawFn) -> Step:
    """Change, name, trace or delete something."""
    name, alias, words = (
        draw(st.sampled_from(NAMES)),
        draw(st.sampled_from(ALIASES)),
        draw(said),
    )
    run = draw(st.sampled_from(["run-1", "run-2", None]))
    acts: list[Callable[[World, tables.Version], Anything]] = [
        lambda w, v: descriptions.update_version(w.session, v, words, actor="a", now=w.moment()),
        lambda w, v: descriptions.update_model(
            w.session, v.model, words, actor="a", now=w.moment()
        ),
        lambda w, v: aliases.move(w.session, v.model, alias, v.number, actor="a", now=w.moment()),
        lambda w, v: aliases.remove(w.session, v.model, alias, actor="a", now=w.moment()),
        lambda w, v: lineage.change(w.session, v, {"run": run}, actor="a", now=w.moment()),
        lambda w, v: deletion.delete_version(w.session, v, actor="a", now=w.moment()),
        lambda w, v: deletion.delete_model(w.session, v.model, actor="a", now=w.moment()),
    ]
    return about(name, draw(st.sampled_from(acts)))


lives = st.tuples(
    st.lists(registering(), min_size=2, max_size=6),
    st.lists(st.one_of(changing(), changing(), registering()), min_size=2, max_size=10),
).map(lambda parts: [*parts[0], *parts[1]])

fields_of_words = st.sampled_from(
    ["name", "kind", "created_by", "alias", "input", "output.x", "input.x", "input.in put"]
    + [f"{family}.{key}" for family in ("tag", "metadata") for key in KEYS]
    + ["lineage.run", "tag.absent"]
)
word_values = st.sampled_from(
    [*VALUES, *NAMES, *ALIASES, "onnx", "key:ann", "FP32[-1,2]", "FP32", "[]", "run-1"]
)
numbers = st.sampled_from(["0", "0.5", "1", "2", "1000", "1005.5", "-1000"])
orders = st.sampled_from([Operator.BELOW, Operator.AT_MOST, Operator.ABOVE, Operator.AT_LEAST])
few = st.frozensets(word_values, min_size=1, max_size=3)
conditions: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Condition, fields_of_words, st.just(Operator.IN), few),
    st.builds(
        Condition,
        fields_of_words,
        st.just(Operator.CONTAINS),
        st.sampled_from(["p", "old", "visi", "%", "_", "-", "ü", "32[", ""]).map(
            lambda part: frozenset({part})
        ),
    ),
    st.builds(
        Condition,
        st.sampled_from([f"{family}.{key}" for family in ("tag", "metadata") for key in KEYS]),
        orders,
        numbers.map(lambda value: frozenset({value})),
    ),
    st.builds(
        Condition,
        st.sampled_from(["version", "size_bytes", "created_at", "updated_at"]),
        orders,
        numbers.map(lambda value: frozenset({repr(float(value))})),
    ),
    st.builds(Condition, fields_of_words, st.just(Operator.EXISTS)),
    st.just(Condition("latest", Operator.EXISTS)),
    st.builds(
        Condition,
        st.just("text"),
        st.just(Operator.CONTAINS),
        st.sampled_from(["vib", "old", "vib old", "strasse", "3", "pump", "y"]).map(
            lambda words: frozenset({words})
        ),
    ),
)
queries = st.recursive(
    conditions,
    lambda parts: st.one_of(
        st.builds(Not, parts),
        st.builds(All, st.lists(parts, min_size=2, max_size=3).map(tuple)),
        st.builds(Any, st.lists(parts, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


# The plain evaluation: it knows the models' own tables, and nothing of the search's.


@dataclass
class Row:
    """What can be said of one version, or of a model without any."""

    model: str
    version: int
    newest: bool
    created_at: float
    updated_at: float
    size_bytes: int
    facts: dict[str, set[str]]
    texts: list[str]


def plain_rows(session: Session, signatures: dict[str, Signature]) -> list[Row]:
    found: list[Row] = []
    for model in session.exec(select(tables.Model)).all():
        if model.deleted_at is not None:
            continue
        versions = list(
            session.exec(select(tables.Version).where(tables.Version.model == model.name))
        )
        if not versions:
            found.append(row_of(session, model, None, {}))
        newest = max((each.number for each in versions), default=0)
        for each in versions:
            row = row_of(session, model, each, plain_facts(session, each, signatures))
            row.newest = each.number == newest
            found.append(row)
    return found


def plain_facts(
    session: Session, row: tables.Version, signatures: dict[str, Signature]
) -> dict[str, set[str]]:
    facts: dict[str, set[str]] = {"kind": {"onnx"}, "created_by": {row.created_by}}
    facts["alias"] = {
        each.name
        for each in session.exec(select(tables.Alias)).all()
        if (each.model, each.version) == (row.model, row.number)
    }
    signature = signatures[row.bundle]
    for side, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            shape = "[" + ",".join(str(size) for size in spec.shape) + "]"
            shown = {spec.datatype, shape, spec.datatype + shape}
            facts.setdefault(side, set()).update(shown)
            facts.setdefault(f"{side}.{spec.name}", set()).update(shown)
    traced = session.get(tables.Lineage, (row.model, row.number))
    if traced is not None and traced.run:
        facts["lineage.run"] = {traced.run}
    return facts


def row_of(
    session: Session,
    model: tables.Model,
    version: tables.Version | None,
    facts: dict[str, set[str]],
) -> Row:
    told = model if version is None else version
    own_tags, own_meta = ({}, {}) if version is None else (version.tags, version.meta)
    for key, value in {**model.tags, **own_tags}.items():
        facts[f"tag.{key}"] = {value}
    for key, value in {**model.meta, **own_meta}.items():
        facts[f"metadata.{key}"] = {value}
    facts["name"] = {model.name}
    number = 0 if version is None else version.number
    texts = [model.name, model.description, "" if version is None else version.description]
    for key in ((model.name, 0), (model.name, number)):
        card = session.get(tables.Card, key)
        texts.append("" if card is None else card.text)
    size = 0
    if version is not None:
        bundle = session.get(tables.Bundle, version.bundle)
        assert bundle is not None
        size = bundle.size_bytes
    return Row(
        model.name, number, version is None, told.created_at, told.updated_at, size, facts, texts
    )


def matches(row: Row, query: Query) -> bool:
    match query:
        case All(parts):
            return all(matches(row, part) for part in parts)
        case Any(parts):
            return any(matches(row, part) for part in parts)
        case Not(part):
            return not matches(row, part)
        case Condition():
            return fulfils(row, query)


def fulfils(row: Row, condition: Condition) -> bool:
    values = sorted(condition.values)
    if condition.field == "latest":
        return row.newest
    if condition.field == "text":
        words = {
            word
            for text in row.texts
            for word in re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold())
        }
        return all(any(word.startswith(part) for word in words) for part in values[0].split())
    if condition.field in {"version", "size_bytes", "created_at", "updated_at"}:
        number = float(getattr(row, condition.field))
        return ordered(number, condition.operator, float(values[0]))
    return any_fulfils(row.facts.get(condition.field, set()), condition, values)


def any_fulfils(held: set[str], condition: Condition, values: list[str]) -> bool:
    match condition.operator:
        case Operator.EXISTS:
            return bool(held)
        case Operator.IN:
            return bool(held & condition.values)
        case Operator.CONTAINS:
            return any(values[0] in ascii_lower(value) for value in held)
        case operator:
            found = [float(value) for value in held if re.fullmatch(r"-?[0-9.]+(e[0-9]+)?", value)]
            return any(ordered(value, operator, float(values[0])) for value in found)


def ascii_lower(text: str) -> str:
    return re.sub("[A-Z]", lambda found: found[0].lower(), text)


def ordered(left: float, operator: Operator, right: float) -> bool:
    return {
        Operator.BELOW: left < right,
        Operator.AT_MOST: left <= right,
        Operator.ABOVE: left > right,
        Operator.AT_LEAST: left >= right,
    }[operator]


def in_order(rows: list[Row], sort: str) -> list[tuple[str, int]]:
    columns = {
        "name": lambda row: (row.model, row.version),
        "version": lambda row: (row.version, row.model),
        "created_at": lambda row: (row.created_at, row.model, row.version),
        "updated_at": lambda row: (row.updated_at, row.model, row.version),
        "size_bytes": lambda row: (row.size_bytes, row.model, row.version),
    }
    key = columns[sort.removeprefix("-")]
    rows = sorted(rows, key=key, reverse=sort.startswith("-"))
    return [(row.model, row.version) for row in rows]


def all_pages(
    find: Callable[[Session, Wanted], search.Found], session: Session, query: str, sort: str
) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    cursor: str | None = None
    while True:
        page = find(session, Wanted(query, sort, 3, cursor))
        found += page.versions
        cursor = page.next
        if cursor is None:
            return found


@pytest.fixture
def engine(stores: Stores, tmp_path: Path) -> Iterator[Anything]:
    url = stores.settings.get("database_url", f"sqlite:///{tmp_path / 'registry.db'}")
    made = database.open_engine(str(url))
    database.migrate(made)
    yield made
    made.dispose()


@pytest.mark.timeout(600)  # 50 lives of a database: minutes on a machine that has more to do
@SOME
@given(
    life=lives,
    wanted=st.lists(queries, min_size=3, max_size=6),
    sort=st.sampled_from([*SORTS, *(f"-{sort}" for sort in SORTS)]),
)
def test_a_search_finds_what_a_plain_evaluation_finds(
    engine: Anything, life: list[Step], wanted: list[Query], sort: str
) -> None:
    with Session(engine) as session:
        world = World(session)
        for step in life:
            step(world)
        rows = plain_rows(session, world.signatures)
        everything = [All(), Condition("latest", Operator.EXISTS)]
        for query in [*everything, *wanted]:
            text = str(query)
            good = [row for row in rows if matches(row, query)]
            versions = [row for row in good if row.version > 0]
            newest = [row for row in good if row.newest]
            assert all_pages(search.versions, session, text, sort) == in_order(versions, sort), text
            assert all_pages(search.models, session, text, sort) == in_order(newest, sort), text
        session.rollback()


@SOME
@given(queries)
def test_a_query_that_is_written_is_read_the_same(query: Query) -> None:
    once = parse(str(query))

    assert parse(str(once)) == once


@SOME
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    try:
        query = parse(text)
    except InvalidError as error:
        assert error.field == "query"  # noqa: PT017 - either outcome is right
    else:
        assert parse(str(query)) == query


@SOME
@given(st.text(alphabet="kindtag.ORNTA()!~<>= ,'\"[]-1", max_size=30))
def test_any_text_of_the_grammars_own_characters_is_read_or_refused(text: str) -> None:
    try:
        query = parse(text)
    except InvalidError as error:
        assert error.field == "query"  # noqa: PT017 - either outcome is right
    else:
        assert parse(str(query)) == query
