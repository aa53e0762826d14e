import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlmodel import Session, SQLModel, select

from cloud import database, tables
from cloud.errors import DatabaseError, ForeignDatabaseError
from cloud.settings import Settings
from runtime.errors import InvalidError
from tests.support.registries import Stores


@pytest.fixture
def engine(tmp_path: Path, stores: Stores) -> Iterator[Engine]:
    settings = Settings(data=tmp_path / "deep", **stores.settings)
    made = database.open_engine(settings.url_of_database)
    database.migrate(made)
    yield made
    made.dispose()


def event(subject: str) -> tables.Event:
    return tables.Event(at=1.0, actor="test", kind="test", subject=subject)


def subjects(session: Session) -> list[str]:
    return list(session.exec(select(tables.Event.subject)))


def test_migrations_from_nothing_make_exactly_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, SQLModel.metadata)

    assert differences == []
    assert set(SQLModel.metadata.tables) < set(inspect(engine).get_table_names())


def test_migrating_twice_changes_nothing(engine: Engine) -> None:
    with database.transaction(engine) as session:
        session.add(event("kept"))

    database.migrate(engine)

    with database.reading(engine) as session:
        assert subjects(session) == ["kept"]


def test_a_database_of_a_newer_version_is_left_alone(engine: Engine) -> None:
    with database.transaction(engine) as session:
        session.connection().execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(ForeignDatabaseError, match="9999"):
        database.migrate(engine)


@pytest.mark.parametrize("stores", ["sqlite+directory"], indirect=True)
def test_the_database_is_private_durable_and_strict(engine: Engine, tmp_path: Path) -> None:
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert (tmp_path / "deep" / "registry.db").stat().st_mode & 0o077 == 0


def test_what_raises_leaves_nothing(engine: Engine) -> None:
    def fail() -> None:
        with database.transaction(engine) as session:
            session.add(event("lost"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.reading(engine) as session:
        assert subjects(session) == []


def test_writers_that_read_first_wait_for_one_another(engine: Engine) -> None:
    """With plain BEGIN, two such writers end in "database is locked" and one count is lost."""
    rounds, writers = 10, 4

    def count() -> None:
        for _ in range(rounds):
            with database.transaction(engine) as session:
                seen = len(subjects(session))
                session.add(event(str(seen)))

    threads = [threading.Thread(target=count) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.reading(engine) as session:
        assert sorted(map(int, subjects(session))) == list(range(rounds * writers))


def test_a_reader_sees_one_moment_while_others_write(engine: Engine) -> None:
    with database.reading(engine) as reader:
        before = subjects(reader)
        with database.transaction(engine) as session:
            session.add(event("later"))
        assert subjects(reader) == before


def test_reading_ids_are_given_in_order_of_arrival(engine: Engine) -> None:
    with database.transaction(engine) as session:
        session.add_all(event(str(number)) for number in range(5))

    with database.reading(engine) as session:
        rows = session.exec(select(tables.Event).order_by("id")).all()

    assert [row.id for row in rows] == [1, 2, 3, 4, 5]


def test_appended_rows_and_transactions_do_not_lose_one_another(engine: Engine) -> None:
    def append() -> None:
        for _ in range(20):
            with database.appending(engine) as session:
                session.add(event("appended"))

    thread = threading.Thread(target=append)
    thread.start()
    for _ in range(20):
        with database.transaction(engine) as session:
            session.add(event("written"))
    thread.join()

    with database.reading(engine) as session:
        assert sorted(subjects(session)) == ["appended"] * 20 + ["written"] * 20


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://root:secret@host/db", "http://user:secret@x", ""]
)
def test_an_unknown_database_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(InvalidError, match="postgresql://USER@HOST:PORT/NAME") as refused:
        database.open_engine(url)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_server_that_is_not_there_is_said_in_one_line(scheme: str, tmp_path: Path) -> None:
    engine = database.open_engine(f"{scheme}://someone:secret@/db?host={tmp_path}")

    with pytest.raises(DatabaseError, match="No such file") as unreachable:
        database.migrate(engine)

    assert "secret" not in str(unreachable.value)
    assert unreachable.value.retryable
