"""The engine, transactions and the schema. All that is special to SQLite is here.

An acknowledged write must survive a power cut, so SQLite runs with synchronous=FULL on a WAL.
Writers begin IMMEDIATE: a transaction that reads first and writes later cannot fail half-way with
"database is locked", it waits at its start (busy_timeout).
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, event, make_url
from sqlmodel import Session, create_engine

from cloud.errors import ForeignDatabaseError
from runtime import files

BUSY_TIMEOUT_MS = 20_000
POOL_SIZE = 16
_WRITES = "packhorse_writes"


def open_engine(url: str) -> Engine:
    """Return an engine; a SQLite file's directory is made if it is missing."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database:
        path = Path(parsed.database)
        files.make_directory(path.parent)
        path.touch(mode=0o600)
    engine = create_engine(
        parsed,
        # A request's session moves between the threads of one pool, never two at once.
        connect_args={"check_same_thread": False},
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _record: object) -> None:
    """Make a new SQLite connection durable, patient and strict."""
    # The driver's own BEGIN would come too late (before the first write): ours is in _begin.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Open a session that may write; durable when the block has ended, undone if it raises."""
    with Session(engine.execution_options(**{_WRITES: True})) as session, session.begin():
        yield session


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Open a session on one consistent view; it must not write."""
    with Session(engine, autoflush=False) as session:
        yield session


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest version; raise ForeignDatabaseError if it is beyond that."""
    config = _alembic()
    with engine.connect() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    try:
        ScriptDirectory.from_config(config).get_revision(present or "head")
    except CommandError as error:
        raise ForeignDatabaseError(
            f"database: its schema {present} is not known here: run the newer Packhorse again"
        ) from error
    writer = engine.execution_options(**{_WRITES: True})
    with writer.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")


def _alembic() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
