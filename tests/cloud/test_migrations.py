"""Every released schema, filled, becomes the newest one, and no row changes.

tests/golden/registry_NNNN.sql is what SQLite's dump gave of a registry of that release.
"""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, select
from sqlmodel import SQLModel

from cloud import database, migrating, tables
from cloud.backup import rows as backup_rows
from cloud.errors import ForeignDatabaseError
from runtime import files
from tests.support import registries
from tests.support.postgres import Server
from tests.support.registries import Stores

GOLDEN = Path(__file__).parents[1] / "golden"
RELEASED = ("0001",)

Rows = dict[str, list[tuple[Any, ...]]]
Fill = Callable[[str], Stores]


def golden(revision: str) -> sqlite3.Connection:
    """Return a database of that release."""
    connection = sqlite3.connect(":memory:")
    connection.executescript((GOLDEN / f"registry_{revision}.sql").read_text())
    return connection


def fill_postgresql(connection: psycopg.Connection, revision: str) -> None:
    """Insert the rows of a release into empty tables of that release."""
    with golden(revision) as source:
        names = {name for (name,) in source.execute("SELECT name FROM sqlite_master")}
        for table in SQLModel.metadata.sorted_tables:
            if table.name not in names:
                continue
            rows = source.execute(f'SELECT * FROM "{table.name}"')  # noqa: S608 - our own names
            places = ", ".join(["%s"] * len(rows.description))
            for row in rows:
                # As text without a type, each is read as what its column is.
                values = [each if isinstance(each, bytes | None) else str(each) for each in row]
                statement = f'INSERT INTO "{table.name}" VALUES ({places})'  # noqa: S608 - as above
                connection.execute(statement.encode(), values)


@pytest.fixture(params=["sqlite", "postgresql"])
def fill(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fill]:
    made: list[str] = []

    def fill_sqlite(revision: str) -> Stores:
        with sqlite3.connect(tmp_path / "old.db") as file:
            golden(revision).backup(file)
        return Stores("sqlite", {"database_url": f"sqlite:///{tmp_path / 'old.db'}"})

    def fill_server(revision: str) -> Stores:
        server: Server = request.getfixturevalue("postgres_server")
        made.append(server.make(template="template0"))
        engine = database.open_engine(server.url(made[-1]))
        database.migrate(engine, to=revision)
        with server.connect(made[-1]) as connection:
            fill_postgresql(connection, revision)
        with engine.begin() as connection:
            backup_rows.continue_numbers(connection)
        engine.dispose()
        return Stores("postgresql", {"database_url": server.url(made[-1])})

    yield {"sqlite": fill_sqlite, "postgresql": fill_server}[request.param]
    for name in made:
        request.getfixturevalue("postgres_server").drop(name)


def contents(engine: Engine, columns: dict[str, list[str]]) -> Rows:
    """Return the rows of these columns, in an order of their own."""
    found: Rows = {}
    with engine.connect() as connection:
        for name, names in columns.items():
            table = SQLModel.metadata.tables[name]
            rows = connection.execute(select(*(table.c[each] for each in names)))
            found[name] = sorted((tuple(row) for row in rows), key=repr)
    return found


def columns_of(engine: Engine) -> dict[str, list[str]]:
    """Return the columns by table."""
    found = inspect(engine)
    return {
        name: [column["name"] for column in found.get_columns(name)]
        for name in found.get_table_names()
        if name != "alembic_version"
    }


@pytest.mark.parametrize("revision", RELEASED)
def test_a_filled_database_of_each_release_becomes_the_newest(fill: Fill, revision: str) -> None:
    engine = database.open_engine(fill(revision).settings["database_url"])
    columns = columns_of(engine)
    before = contents(engine, columns)

    database.migrate(engine)

    assert contents(engine, columns) == before
    assert min(map(len, before.values())) >= 1
    with engine.connect() as connection:
        assert database.revision(connection) == database.head()
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []
    engine.dispose()


@pytest.mark.parametrize("revision", RELEASED)
def test_a_registry_goes_on_where_the_older_one_ended(
    fill: Fill, revision: str, tmp_path: Path
) -> None:
    files.make_directory(tmp_path / "data" / "secrets")
    (tmp_path / "data" / "secrets" / "admin.key").write_text("phk_golden")
    with registries.running(tmp_path / "data", stores=fill(revision)) as registry:
        shown = registry.get("/api/v1/deployments")
        with registry.services.reading() as session:
            generation = session.get_one(tables.Desired, "dev-b").generation
        registry.post("/api/v1/devices/tokens", {})
        registry.post(f"/api/v1/deployments/{shown['items'][0]['id']}/cancel")
        with registry.services.reading() as session:
            later = session.get_one(tables.Desired, "dev-b").generation

    assert len(shown["items"]) == 3
    assert later >= generation


def test_there_is_no_way_back(fill: Fill) -> None:
    """An older Packhorse leaves a newer database as it is, and says what to do."""
    engine = database.open_engine(fill("0001").settings["database_url"])
    database.migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(ForeignDatabaseError, match=r"9999.*run the newer Packhorse"):
        database.migrate(engine)
    engine.dispose()


def test_every_migration_has_a_number_and_follows_the_one_before() -> None:
    numbers = [path.name[:4] for path in sorted(database.VERSIONS.glob("*.py"))]
    scripts = ScriptDirectory.from_config(migrating.config())

    assert numbers == [f"{each:04}" for each in range(1, len(numbers) + 1)]
    assert (database.head(), sorted(database.revisions())) == (numbers[-1], numbers)
    assert [each.revision for each in scripts.walk_revisions()] == numbers[::-1]


def test_a_schema_that_is_the_newest_is_found_so_without_what_migrates(tmp_path: Path) -> None:
    """It takes a third of a second to load, at each start of a registry."""
    engine = database.open_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    database.migrate(engine)
    engine.dispose()
    code = (
        "import sys\nfrom cloud import database\n"
        f"database.migrate(database.open_engine('sqlite:///{tmp_path / 'registry.db'}'))\n"
        "print('alembic' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout == "False\n"
