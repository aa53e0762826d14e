"""The way from an older schema to a newer one, by alembic.

Apart from cloud.database, since alembic takes a third of a second to load.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import alembic.command
import alembic.config
from sqlalchemy import Connection, Engine

from cloud import database
from cloud.errors import ForeignDatabaseError
from runtime.errors import InvalidError


def bring(engine: Engine, to: str) -> None:
    """Bring the schema up to a version; waits while another registry does so. All or nothing.

    Raises ForeignDatabaseError, or sqlalchemy.exc.OperationalError.
    """
    with database.for_writing(engine).connect() as connection:
        if engine.dialect.name == database.POSTGRESQL:
            with connection.begin():
                _require_utf8(connection)
                database.without_limits(connection)
                _upgrade(connection, to)
        else:
            with _loose_references(connection), connection.begin():
                _upgrade(connection, to)
                _require_references(connection)


def config() -> alembic.config.Config:
    """Return alembic's configuration."""
    made = alembic.config.Config()
    made.set_main_option("script_location", str(database.VERSIONS.parent))
    made.set_main_option("path_separator", "os")
    return made


def _upgrade(connection: Connection, to: str) -> None:
    present = database.revision(connection)
    if present is not None and present not in database.revisions():
        raise ForeignDatabaseError(
            f"database: its schema {present} is not known here: run the newer Packhorse again"
        )
    chosen = config()
    chosen.attributes["connection"] = connection
    alembic.command.upgrade(chosen, to)


@contextlib.contextmanager
def _loose_references(connection: Connection) -> Iterator[None]:
    """Let SQLite replace a table that others refer to; it changes this outside transactions only.

    That is how it alters columns: a new table is filled and takes the old one's name.
    """
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def _require_references(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    assert not broken, f"a migration lost rows that others refer to: {broken[:3]}"


def _require_utf8(connection: Connection) -> None:
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        fix = "make the database with ENCODING 'UTF8': see docs/operations.md"
        raise InvalidError("database_url", f"a database in {encoding}", fix)
