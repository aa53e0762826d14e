"""A real PostgreSQL server of the tests' own, and databases in it that are made in milliseconds.

    with postgres.serving() as server:
        server.make("one")            # a copy of a database whose schema is the newest
        server.url("one")             # postgresql://…?host=/tmp/…, over a Unix socket
        server.restart()

The server refuses to run as root, so root runs it as the user `postgres`. It does not outlive the
process that started it.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from cloud import database
from runtime import children
from tests.support import parts
from tests.support.brokers import eventually

USER = "packhorse"
TEMPLATE = "packhorse_template"
_PORT = "5432"
"""Of a socket in a directory of its own: it collides with nothing."""
_HBA = f"""
local all careful scram-sha-256
local all {USER} trust
"""
_FAST = ("fsync=off", "full_page_writes=off")
"""For tests that do not kill the server: what it writes need not survive the machine."""
_OPTIONS = (
    "listen_addresses=",
    "unix_socket_permissions=0777",
    "max_connections=200",
    "shared_buffers=32MB",
    "max_wal_size=256MB",
    "autovacuum=off",
    "log_min_messages=fatal",
)


class Server:
    """One server in one directory; `make` and `drop` databases in it."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        """`directory` belongs to the user that runs the server."""
        self.directory, self._durable = directory, durable
        self._names = itertools.count()
        self._child: subprocess.Popen[bytes] | None = None

    def url(self, name: str, user: str = USER) -> str:
        """Return the URL of a database for Packhorse."""
        return f"postgresql+psycopg://{user}@/{name}?host={self.directory}&port={_PORT}"

    def connect(self, name: str = "postgres") -> psycopg.Connection:
        """Return a connection that commits each statement by itself."""
        return psycopg.connect(
            host=str(self.directory), port=_PORT, user=USER, dbname=name, autocommit=True
        )

    def make(self, *, template: str = TEMPLATE) -> str:
        """Make a database like `template`, with a name of its own; return that."""
        name = f"test_{next(self._names)}"
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return name

    def drop(self, name: str) -> None:
        """Forget a database, whoever is connected to it."""
        with self.connect() as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())

    def initialise(self) -> None:
        """Make the cluster."""
        arguments = ["--pgdata", str(self.directory / "data"), "--username", USER]
        forms = ["--encoding", "UTF8", "--locale", "C", "--auth", "trust", "--no-sync"]
        done = subprocess.run(
            [*_as_user(), _program("initdb"), *arguments, *forms],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (self.directory / "data" / "pg_hba.conf").write_text(_HBA)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = (*_OPTIONS, *(() if self._durable else _FAST))
        settings = [part for option in options for part in ("-c", option)]
        with (self.directory / "log").open("ab") as log:
            self._child = children.spawn(
                [
                    *_as_user(die_with_parent=True),
                    _program("postgres"),
                    *("-D", str(self.directory / "data"), "-k", str(self.directory), "-p", _PORT),
                    *settings,
                ],
                cwd=Path("/"),
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, "PostgreSQL answers")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: by default as an operator does, with clients thrown out. SIGQUIT: a crash."""
        assert self._child is not None, "started before"
        self._child.send_signal(number)
        self._child.wait(30)

    def restart(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it, and start it again with the same data."""
        self.stop(number)
        self.start()

    def _answers(self) -> bool:
        assert self._child is not None, "started before"
        assert self._child.poll() is None, (self.directory / "log").read_text()
        try:
            with self.connect():
                return True
        except psycopg.OperationalError:
            return False


@contextlib.contextmanager
def serving(*, durable: bool = False) -> Iterator[Server]:
    """Give a running server with a template of the newest schema; `durable`: with fsync."""
    _program("postgres")
    # Not below pytest's directories: those are closed to other users, and paths of sockets short.
    directory = Path(tempfile.mkdtemp(prefix="packhorse-pg-"))
    server = Server(directory, durable=durable)
    try:
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        server.initialise()
        server.start()
        try:
            _make_template(server)
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(directory)


def _make_template(server: Server) -> None:
    with server.connect() as connection:
        connection.execute(f'CREATE DATABASE "{TEMPLATE}"'.encode())
    engine = database.open_engine(server.url(TEMPLATE))
    database.migrate(engine)
    engine.dispose()


def _program(name: str) -> str:
    """Return the path of a program of the newest server; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=_version)
    return str(found[-1]) if found else parts.require(name)


def _version(program: Path) -> int:
    return int(program.parts[-3])


def _as_user(*, die_with_parent: bool = False) -> list[str]:
    """Return what to put before a command so that it does not run as root."""
    if os.geteuid() != 0:
        return []
    # To change the user unbinds a process from its parent's death: it is bound anew.
    bound = ["--pdeathsig", "QUIT"] if die_with_parent else []
    return [
        parts.require("setpriv"),
        *("--reuid", "postgres", "--regid", "postgres", "--init-groups"),
        *bound,
        "--",
    ]
