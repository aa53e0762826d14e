"""`packhorse restore`: a registry out of a backup, on any of the databases and stores.

    verify     unpack everything below the data directory, and compare each digest
    refuse     a newer schema; a target that holds a registry already, unless it may be replaced
    mark       from here on the directory is not served until all is done
    replace    blobs into the store, rows in one transaction, then authority and secrets
    mend       what devices would misunderstand (cloud.backup.mend)

Killed at any moment, it is run again.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, make_url, text
from sqlalchemy.exc import DataError, OperationalError
from sqlmodel import SQLModel

from cloud import database
from cloud.backup import container, mend, rows, unfinished
from cloud.backup.container import Manifest
from cloud.backup.mend import Mended
from cloud.errors import ConflictError, DatabaseError, ForeignDatabaseError
from cloud.settings import Settings
from cloud.storage.blobs import Blobs
from cloud.storage.opening import open_store
from runtime import datalock, files
from runtime.clock import Clock, SystemClock
from runtime.digests import Digest
from runtime.errors import InvalidError

_STAGING = "restore.incoming"
_FUNCTIONS = ("refuse_to_rewrite_history",)
"""Of PostgreSQL, made by migrations beside tables."""
_REPLACE = "give --replace to lose what is there, or another --data"


@dataclass(frozen=True)
class Restored:
    """What is there now, for a person."""

    created_at: float
    """When the backup was made."""
    rows: int
    blobs: int
    missing: tuple[Digest, ...]
    """Blobs that versions need and that are nowhere: push these versions again."""
    mended: Mended


def restore(
    settings: Settings, source: Path, *, replace: bool = False, clock: Clock | None = None
) -> Restored:
    """Make `settings.data`, and the database and store of the settings, what a backup holds.

    Raises InvalidError or IntegrityError for a file that is no whole backup, ForeignDatabaseError
    for one of a newer Packhorse, ConflictError for a target that is not empty, InUseError if a
    registry runs there; nothing is changed then. DatabaseError, StoreError, SpaceError later too:
    run it again.
    """
    if not source.is_file():
        raise InvalidError("file", str(source), "name a file")
    files.make_directory(settings.data)
    with datalock.held(settings.data), contextlib.ExitStack() as opened:
        staging = settings.data / _STAGING
        files.remove(staging)
        opened.callback(files.remove, staging)
        manifest = container.unpack(source, staging)
        _require_known(manifest)
        engine = database.open_engine(settings.url_of_database)
        opened.callback(engine.dispose)
        target = _Target(settings, engine, staging, clock or SystemClock())
        return target.fill(manifest, replace=replace or unfinished.is_marked(settings.data))


def _require_known(manifest: Manifest) -> None:
    if manifest.schema not in database.revisions():
        raise ForeignDatabaseError(
            f"backup: its schema {manifest.schema} is not known here: use Packhorse "
            f"{manifest.packhorse} or newer"
        )


class _Target:
    """Where a backup goes."""

    def __init__(self, settings: Settings, engine: Engine, staging: Path, clock: Clock) -> None:
        self._settings, self._engine = settings, engine
        self._staging, self._clock = staging, clock

    def fill(self, manifest: Manifest, *, replace: bool) -> Restored:
        """Put everything in its place."""
        try:
            if not replace:
                self._require_empty()
            unfinished.begin(self._settings.data)
            blobs = self._put_blobs(manifest)
            self._wipe()
            count, mended, missing = self._put_rows(manifest)
        except OperationalError as error:
            raise DatabaseError(str(error.orig)) from error
        for directory in (self._settings.authority_directory, self._settings.secrets_directory):
            self._put_files(directory)
        # The broker's copies of desired states are of another time; the registry sends its own.
        files.remove(self._settings.broker_directory)
        unfinished.end(self._settings.data)
        return Restored(manifest.created_at, count, blobs, missing, mended)

    def _require_empty(self) -> None:
        data = self._settings.data
        for path in (self._settings.authority_directory, self._settings.secrets_directory):
            if path.exists():
                raise ConflictError(f"data: {data} holds a registry ({path.name}): {_REPLACE}")
        with self._engine.connect() as connection:
            if inspect(connection).get_table_names():
                raise ConflictError(f"database: it is not empty: {_REPLACE}")

    def _put_blobs(self, manifest: Manifest) -> int:
        store = open_store(self._settings)
        blobs, count = Blobs(store), 0
        for member in manifest.members:
            root, _, name = member.name.partition("/")
            if root == "blobs":
                blobs.put_file(Digest(name), self._staging / member.name)
                files.remove(self._staging / member.name)
                count += 1
        return count

    def _wipe(self) -> None:
        """Forget every table of ours."""
        if self._engine.dialect.name == database.POSTGRESQL:
            with self._engine.begin() as connection:
                _drop_all(connection)
            return
        self._engine.dispose()
        path = make_url(self._settings.url_of_database).database
        for suffix in ("", "-wal", "-shm"):
            files.remove(Path(f"{path}{suffix}"))
        Path(f"{path}").touch(mode=0o600)

    def _put_rows(self, manifest: Manifest) -> tuple[int, Mended, tuple[Digest, ...]]:
        database.migrate(self._engine, to=manifest.schema)
        with database.transaction(self._engine) as session:
            database.without_limits(session.connection())
            count = sum(self._insert(session.connection(), table) for table in manifest.tables)
            rows.continue_numbers(session.connection())
        database.migrate(self._engine)
        with database.transaction(self._engine) as session:
            now = self._clock.now()
            mended = mend.mend(session, backed_up_at=manifest.created_at, now=now)
            rows.continue_numbers(session.connection())
            wanted = mend.blobs(session)
        blobs = Blobs(open_store(self._settings))
        return count, mended, tuple(digest for digest in wanted if not blobs.has(digest))

    def _insert(self, connection: Connection, told: container.Rows) -> int:
        table = SQLModel.metadata.tables.get(told.name)
        if table is None:
            raise InvalidError("backup.tables", told.name, "restore it with the newer Packhorse")
        with (self._staging / "rows" / told.name).open("rb") as stream:
            try:
                count = rows.insert(connection, table, told.columns, rows.read(stream))
            except DataError as error:
                fix = "this database cannot hold it: restore into SQLite"
                raise InvalidError(f"backup.tables.{told.name}", str(error.orig), fix) from error
        if count != told.rows:
            raise InvalidError(f"backup.tables.{told.name}", f"{count} rows", f"{told.rows} rows")
        return count

    def _put_files(self, target: Path) -> None:
        """Replace a directory of small secrets."""
        source = self._staging / target.name
        files.make_directory(source)
        source.chmod(0o700)
        for path in source.iterdir():
            with path.open("rb") as file:
                files.fsync_file(file.fileno(), path)
        files.fsync_directory(source)
        files.remove(target)
        source.rename(target)
        files.fsync_directory(target.parent)


def _drop_all(connection: Connection) -> None:
    present = set(inspect(connection).get_table_names())
    ours = {*SQLModel.metadata.tables, "alembic_version"} & present
    for name in sorted(ours):
        connection.execute(text(f'DROP TABLE "{name}" CASCADE'))
    for name in _FUNCTIONS:
        connection.execute(text(f"DROP FUNCTION IF EXISTS {name} CASCADE"))
