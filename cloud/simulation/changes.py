"""Sees at once, and at next to no cost, that another process has written a SQLite database.

`PRAGMA data_version` (sqlite.org/pragma.html): a number that differs from the one seen before by
the same connection if another one has committed meanwhile.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path


class Changes:
    """For one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Look through a connection that does nothing else."""
        self._connection = connection
        self._seen: int | None = None

    def any(self) -> bool:
        """Say whether something may have been committed since the last call, or this is the first.

        Raises sqlite3.Error if the database cannot be read.
        """
        (now,) = self._connection.execute("PRAGMA data_version").fetchone()
        changed, self._seen = now != self._seen, now
        return bool(changed)


@contextlib.contextmanager
def of(database: Path) -> Iterator[Changes]:
    """Watch a database, for the thread that asks."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        yield Changes(connection)
