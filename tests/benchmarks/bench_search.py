"""Pages of searches over 100,000 versions, against bare SQL for the same page of the same rows.

Ours: a query as text, read, compiled, run, and its page of 50 versions with all that the API shows
of them. Bare: SQL written by hand for the same 50 names and numbers, nothing else. Goals: no page
takes longer than 250 ms, and the median takes at most 20 ms more than bare SQL, which shows none of
what a page shows. Prints JSON, one line for each database; PostgreSQL is measured where its server
is installed.

    python tests/benchmarks/bench_search.py [--versions 100000] [--rounds 7]
"""

import argparse
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import sqlalchemy as sa
from sqlalchemy import Engine
from sqlmodel import Session

from cloud import database, tables
from cloud.registry import catalogue, models, queries, search
from cloud.registry.search import Wanted
from runtime.bundle.index import Index, Signature, TensorSpec
from tests.support import postgres

PER_MODEL = 50
PAGE = 50
GOAL_MS = 250.0
GOAL_EXTRA_MS = 20.0
TASKS = ("anomaly", "vision", "sound", "text")
CHUNK = 5_000
_IN = "e.id IN (SELECT entry FROM search_fact WHERE field = '{}' AND {})"
_WORD = (
    "e.id IN (SELECT l.entry FROM search_word w JOIN search_entry_text l ON l.text = w.text"
    " WHERE w.word >= '{0}' AND w.word < '{0}zzzz')"
)


def fact(field: str, condition: str) -> str:
    """Return a bare condition on a fact."""
    return _IN.format(field, condition)


SOUND = fact("tag.task", "value = 'sound'")
TOGETHER = (
    "tag.task = anomaly AND (tag.rare = yes OR metadata.accuracy >= 0.99) "
    "AND NOT name ~ 77 AND input.x in (FP32[-1,3], FP32[-1,4]) AND text ~ vibration"
)
BARE_TOGETHER = " AND ".join(
    [
        fact("tag.task", "value = 'anomaly'"),
        "({} OR {})".format(
            fact("tag.rare", "value = 'yes'"), fact("metadata.accuracy", "number >= 0.99")
        ),
        "NOT lower(e.model) LIKE '%77%'",
        fact("input.x", "value IN ('FP32[-1,3]', 'FP32[-1,4]')"),
        _WORD.format("vibration"),
    ]
)
CASES: dict[str, tuple[str, str, str]] = {
    "everything": ("", "created_at", "1 = 1"),
    "common tag": ("tag.task = anomaly", "-created_at", fact("tag.task", "value = 'anomaly'")),
    "rare tag": ("tag.rare = yes", "name", fact("tag.rare", "value = 'yes'")),
    "no version": ("tag.rare = never", "-created_at", fact("tag.rare", "value = 'never'")),
    "number": ("metadata.accuracy > 0.999", "name", fact("metadata.accuracy", "number > 0.999")),
    "common number": ("metadata.accuracy > 0.1", "name", fact("metadata.accuracy", "number > 0.1")),
    "signature": ("input.x = FP32[-1,7]", "name", fact("input.x", "value = 'FP32[-1,7]'")),
    "part of a name": ("name ~ 1234", "name", "lower(e.model) LIKE '%1234%'"),
    "word": ("text ~ bearing77", "-created_at", _WORD.format("bearing77")),
    "common word": ("text ~ retrained", "-created_at", _WORD.format("retrained")),
    "newest": ("latest AND tag.task = sound", "name", f"e.newest AND {SOUND}"),
    "all together": (TOGETHER, "-created_at", BARE_TOGETHER),
}
"""A query, its order, and the same as bare SQL."""
ORDERS = {
    "name": "e.model, e.version",
    "created_at": "e.created_at, e.model, e.version",
    "-created_at": "e.created_at DESC, e.model DESC, e.version DESC",
}


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--versions", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measure(f"sqlite:///{scratch}/registry.db", "sqlite", chosen.versions, chosen.rounds)
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        return
    with postgres.serving(durable=True) as server:
        measure(server.url(server.make()), "postgresql", chosen.versions, chosen.rounds)


def measure(url: str, name: str, versions: int, rounds: int) -> None:
    """Fill a database and print how long its pages take."""
    engine = database.open_engine(url)
    database.migrate(engine)
    fill(engine, versions)
    cases = {}
    with database.reading(engine) as session:
        for case, (query, sort, bare) in CASES.items():
            ours, found = timed(lambda q=query, s=sort: page(session, q, s), rounds)
            statement = (
                f"SELECT e.model, e.version FROM search_entry e WHERE e.version > 0 AND {bare}"  # noqa: S608 - our own
                f" ORDER BY {ORDERS[sort]} LIMIT {PAGE}"
            )
            plain, rows = timed(lambda sql=statement: bare_page(session, sql), rounds)
            assert found == rows, case
            cases[case] = {"ours_ms": ours, "bare_ms": plain, "rows": len(rows)}
    engine.dispose()
    slowest = max(case["ours_ms"] for case in cases.values())
    extra = statistics.median(case["ours_ms"] - case["bare_ms"] for case in cases.values())
    answer = {
        "bench": "search",
        "database": name,
        "versions": versions,
        "slowest_ms": slowest,
        "median_extra_ms": round(extra, 2),
        "goal_ms": GOAL_MS,
        "goal_extra_ms": GOAL_EXTRA_MS,
        "ok": slowest <= GOAL_MS and extra <= GOAL_EXTRA_MS,
        "cases": cases,
    }
    print(json.dumps(answer))  # noqa: T201 - its output is the point


def page(session: Session, query: str, sort: str) -> list[tuple[str, int]]:
    """Return a page as the API makes it."""
    found = search.versions(session, Wanted(query, sort, PAGE)).versions
    known = models.details(session, found)
    return [key for key in found if key in known]


def bare_page(session: Session, statement: str) -> list[tuple[str, int]]:
    """Return a page by SQL alone."""
    if session.get_bind().dialect.name == "postgresql":
        statement = statement.replace("%", "%%")  # its driver takes % for a parameter
    rows = session.connection().exec_driver_sql(statement)
    return [(model, version) for model, version in rows]


def timed(act: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Return the median in milliseconds, and the last result."""
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = act()
        took.append(time.perf_counter() - start)
    return round(statistics.median(took) * 1000, 2), result


def fill(engine: Engine, count: int) -> None:
    """Have so many versions, and what searches look through, as registrations would make it."""
    rng = random.Random(1)
    names = sorted({row["model"] for row in map(entry, range(count))})
    model_rows = (
        {"name": name, "created_at": 0.0, "updated_at": 0.0, "last_number": PER_MODEL,
         "description": "", "tags": {}, "metadata": {}, "revision": 1}
        for name in names
    )  # fmt: skip
    insert(engine, tables.Model, model_rows)
    bundle = {"digest": "0" * 64, "kind": "onnx", "size_bytes": 1, "created_at": 0.0}
    insert(engine, tables.Bundle, [bundle])
    insert(engine, tables.Version, (version(number) for number in range(count)))
    insert(engine, tables.SearchEntry, map(entry, range(count)))
    insert(engine, tables.SearchFact, (row for n in range(count) for row in facts(n, rng)))
    texts = [f"retrained {n} on line{n % 97} bearing{n % 1000} vibration" for n in range(count)]
    insert(engine, tables.SearchText, ({"id": n + 1, "sha256": str(n)} for n in range(count)))
    insert(
        engine,
        tables.SearchWord,
        ({"word": w, "text": n + 1} for n, text in enumerate(texts) for w in queries.words(text)),
    )
    links = ({"text": n + 1, "entry": n + 1, "inherited": False} for n in range(count))
    insert(engine, tables.SearchEntryText, links)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE" if engine.dialect.name != "sqlite" else "SELECT 1")


def entry(number: int) -> dict[str, Any]:
    """Return the entry of a version."""
    return {
        "id": number + 1,
        "model": f"model-{number // PER_MODEL}",
        "version": number % PER_MODEL + 1,
        "newest": number % PER_MODEL == PER_MODEL - 1,
        "created_at": 1e9 + number * 7919 % 1_000_003,
        "updated_at": 1e9,
        "size_bytes": number * 31 % 10_000_019,
    }


def version(number: int) -> dict[str, Any]:
    """Return a version's own row."""
    return {
        "model": f"model-{number // PER_MODEL}",
        "number": number % PER_MODEL + 1,
        "bundle": "0" * 64,
        "created_at": 1e9 + number * 7919 % 1_000_003,
        "created_by": "key:bench",
        "updated_at": 1e9,
        "description": "",
        "tags": {},
        "metadata": {},
        "revision": 1,
    }


def facts(number: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yield what a version's bundle and its people tell."""
    tensor = TensorSpec("x", "FP32", (-1, number % 64))
    index = Index(
        format=1, name="m", kind="onnx", model="m", files=(), signature=Signature((tensor,), ())
    )
    pairs = {*catalogue.of_index(index), ("tag.task", rng.choice(TASKS))}
    pairs |= {("tag.rare", "yes" if number % 1000 == 0 else "no")}
    pairs |= {("metadata.accuracy", f"{rng.random():.4f}"), ("created_by", "key:bench")}
    for field, value in pairs:
        yield {
            "entry": number + 1,
            "field": field,
            "value": value,
            "number": queries.number(value),
            "inherited": False,
        }


def insert(engine: Engine, table: Any, rows: Any) -> None:
    """Insert many rows."""
    with database.transaction(engine) as session:
        left = iter(rows)
        while some := list(itertools.islice(left, CHUNK)):
            session.connection().execute(sa.insert(table.__table__), some)


if __name__ == "__main__":
    main()
