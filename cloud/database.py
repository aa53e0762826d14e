"""The engine, transactions and the schema's version. What is special to one database is here.

Three kinds of transactions, the same on SQLite and PostgreSQL (docs/adr/0013 says why):

    reading      one consistent view, no writes, waits for nobody
    transaction  reads and writes; one after the other, so what it read still holds when it commits
    appending    adds rows that no decision rests on (telemetry); never waits for a `transaction`

SQLite: WAL with synchronous=FULL, since an acknowledged write must survive a power cut; writers
begin IMMEDIATE and so wait for one another at their start, never half-way.
PostgreSQL: a `transaction` first takes an advisory lock that lasts until its commit and then reads
what is committed; readers get REPEATABLE READ. Row numbers (events) rise in the order of commits.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from sqlalchemy import URL, Connection, Engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlmodel import Session, create_engine

from cloud.errors import DatabaseError
from runtime import files
from runtime.errors import InvalidError

BUSY_TIMEOUT_MS = 20_000
"""How long a writer waits for its turn."""
POOL_SIZE = 16
CONNECT_TIMEOUT_S = 5
POSTGRESQL = "postgresql"
WRITERS_LOCK = 0x7061636B_686F7273
"""The advisory lock of PostgreSQL that writers take: one per database."""
_SESSION = f"""
SET lock_timeout = {BUSY_TIMEOUT_MS};
SET statement_timeout = '60s';
SET idle_in_transaction_session_timeout = '60s';
SELECT set_config('synchronous_commit', 'on', false)
 WHERE current_setting('synchronous_commit') = 'off';
"""
"""A stuck client must not hold the lock for ever; an acknowledged write must be durable."""
_MODE = "packhorse_mode"
_WRITES, _APPENDS = "writes", "appends"
VERSIONS = Path(__file__).parent / "migrations" / "versions"
_FORMS = "give sqlite:///PATH or postgresql://USER@HOST:PORT/NAME"


def open_engine(url: str) -> Engine:
    """Return an engine; a SQLite file's directory is made if it is missing.

    Nothing is connected yet. Raises InvalidError for a URL that is of no known database.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == POSTGRESQL:
        return _open_postgresql(parsed)
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
        hide_parameters=True,
        json_serializer=_json,
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _json(value: Any) -> str:
    """Return what a JSON column holds; messages as they travel."""
    if isinstance(value, msgspec.Struct):
        return msgspec.json.encode(value).decode()
    return json.dumps(value)


def _parse(url: str) -> URL:
    """Return a URL with the driver we have; an error never shows what may be a password."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidError("database_url", "(not shown)", _FORMS) from None
    backend = parsed.get_backend_name()
    if backend not in {"sqlite", "postgres", POSTGRESQL}:
        raise InvalidError("database_url", f"{backend}://…", _FORMS)
    return parsed if backend == "sqlite" else parsed.set(drivername=f"{POSTGRESQL}+psycopg")


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Make a new SQLite connection durable, patient and strict."""
    # The driver's own BEGIN would come too late (before the first write): ours is in _begin.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes(connection) else "BEGIN")


def _open_postgresql(url: URL) -> Engine:
    """Return an engine whose connections notice a dead server, and are checked before use."""
    asked: Mapping[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "packhorse",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": BUSY_TIMEOUT_MS,
    }
    engine = create_engine(
        url,
        connect_args={name: value for name, value in asked.items() if name not in url.query},
        pool_pre_ping=True,
        pool_size=POOL_SIZE,
        max_overflow=POOL_SIZE,
        hide_parameters=True,
        json_serializer=_json,
        pool_timeout=BUSY_TIMEOUT_MS / 1000,
    )
    event.listen(engine, "connect", _set_up_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _set_up_postgresql(connection: Any, _record: object) -> None:
    connection.execute(_SESSION)
    connection.commit()


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get(_MODE) == _WRITES:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})")


def for_writing(engine: Engine) -> Engine:
    """Return the engine whose transactions are those of `transaction`."""
    return engine.execution_options(**{_MODE: _WRITES})


def writes(connection: Connection) -> bool:
    """Say whether this connection is that of a session that may write."""
    return connection.get_execution_options().get(_MODE) is not None


@contextlib.contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Open a session that may write; durable when the block has ended, undone if it raises.

    Such blocks run one after the other. Raises sqlalchemy.exc.OperationalError if its turn does
    not come in BUSY_TIMEOUT_MS, or the database is gone.
    """
    with Session(for_writing(engine)) as session, session.begin():
        yield session


@contextlib.contextmanager
def appending(engine: Engine) -> Iterator[Session]:
    """Open a session that adds rows which no `transaction` reads; durable as there.

    On PostgreSQL it waits for no other writer; on SQLite for all.
    """
    with Session(engine.execution_options(**{_MODE: _APPENDS})) as session, session.begin():
        yield session


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Open a session on one consistent view; it must not write."""
    with Session(engine.execution_options(**_reading(engine)), autoflush=False) as session:
        yield session


def _reading(engine: Engine) -> dict[str, Any]:
    if engine.dialect.name == POSTGRESQL:
        return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return {}


def without_limits(connection: Connection) -> None:
    """Let this transaction's statements, and the pauses between them, take as long as they do."""
    if connection.dialect.name == POSTGRESQL:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def copy_rows(
    connection: Connection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Insert rows in this transaction by PostgreSQL's COPY; JSON is given as text.

    Raises sqlalchemy.exc.DBAPIError as any statement does.
    """
    driver: Any = connection.connection.driver_connection
    names = ", ".join(f'"{name}"' for name in columns)
    statement = f'COPY "{table}" ({names}) FROM STDIN'
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:
        broken = driver.closed or driver.broken
        raise DBAPIError.instance(
            statement, None, error, psycopg.Error, connection_invalidated=broken
        ) from error


def migrate(engine: Engine, *, to: str = "head") -> None:
    """Bring the schema up to the newest version, or to one on the way there.

    Waits while another registry does so. All or nothing. Raises ForeignDatabaseError if the schema
    is beyond what is known here (there is no way back), DatabaseError if it cannot be reached.
    """
    try:
        with engine.connect() as connection:
            present = revision(connection)
        if present == (head() if to == "head" else to):
            return
        from cloud import migrating  # noqa: PLC0415 - most starts find nothing to do, and it is slow

        migrating.bring(engine, to)
    except OperationalError as error:
        raise DatabaseError(str(error.orig)) from error


def revision(connection: Connection) -> str | None:
    """Return the schema's version; None in an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
    return found.scalar_one_or_none()


def head() -> str:
    """Return the newest version of the schema that is known here."""
    return max(revisions())


def revisions() -> frozenset[str]:
    """Return all versions of the schema that are known here."""
    return frozenset(path.name.partition("_")[0] for path in VERSIONS.glob("[0-9]*.py"))
