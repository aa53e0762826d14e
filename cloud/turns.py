"""Which of several registries on one database does what only one may do.

Hearing devices is such a thing (a broker gives a session to one connection), and so is sending
webhooks. On PostgreSQL whose turn it is says an advisory lock, which is held by a connection: it is
free as soon as the process is gone, and nothing is written while nothing changes. A SQLite file has
one registry.

    unknown ──► waiting ──► ours ──► (lost to another) the process ends, and begins anew by waiting
"""

import logging
import threading
from collections.abc import Callable

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from cloud.database import POSTGRESQL

log = logging.getLogger(__name__)

LOOK_S = 1.0
_LOCK = 0x7061636B_7475726E
"""Beside the lock of writers: see cloud.database."""


class Turn:
    """One for each registry."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._ours = threading.Event()
        if engine.dialect.name != POSTGRESQL:
            self._ours.set()
        self.waiting = False
        """Whether another registry has it."""

    @property
    def ours(self) -> bool:
        """Whether this registry has it."""
        return self._ours.is_set()

    def run(self, stopping: threading.Event) -> None:
        """Wait for it, then hold it until `stopping`; return early if another took it."""
        while not stopping.is_set():
            try:
                if not self.look():
                    log.critical("another registry took over while the database was out of reach")
                    return
            except OperationalError as error:
                self.part()
                log.info("turn not known", extra={"why": str(error)})
            stopping.wait(LOOK_S)
        self.part()

    def look(self) -> bool:
        """Take it if it is free, or see whether it is still ours; False: another took it."""
        if self._engine.dialect.name != POSTGRESQL:
            return True
        if self._connection is not None:
            self._connection.exec_driver_sql("SELECT 1")
            return True
        if self._take():
            self._ours.set()
            self.waiting = False
            return True
        self.waiting = not self.ours
        return self.waiting

    def _take(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        taken = connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_LOCK})").scalar_one()
        if taken:
            self._connection = connection
        else:
            connection.close()
        return bool(taken)

    def part(self) -> None:
        """Let another registry have it."""
        if self._connection is not None:
            # Not back into the pool: the lock is the connection's.
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def then(self, duty: Callable[[threading.Event], object], stopping: threading.Event) -> None:
        """Do this once it is our turn, until `stopping`."""
        while not stopping.is_set():
            if self._ours.wait(LOOK_S / 4):
                duty(stopping)
                return
