"""`packhorse backup`: everything that makes a registry, as it is at one moment, into one file.

The registry may run meanwhile. Rows are read in one transaction that sees one moment and holds up
nobody; then the blobs are copied that these rows refer to. Garbage collection leaves blobs alone
that were touched not long ago, so they are touched before, and again while copying goes on.
"""

import importlib.metadata
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, select
from sqlmodel import col, update

from cloud import database, tables
from cloud.backup import container, rows
from cloud.backup.container import Manifest, Rows, Writer
from cloud.errors import ForeignDatabaseError
from cloud.settings import Settings
from cloud.storage.blobs import Blobs
from cloud.storage.directory import Directory
from cloud.storage.objects import ObjectStore
from cloud.storage.opening import open_store
from cloud.storage.presence import batches
from runtime import files, tls
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

DERIVED = frozenset({"encoding", "idempotency_key"})
"""Tables of what is made anew, or is worth nothing after a while."""
TOUCH_S = 60.0


@dataclass(frozen=True)
class Made:
    """What a backup holds, for a person."""

    size_bytes: int
    rows: int
    blobs: int
    missing: tuple[Digest, ...]
    """Blobs that the registry has lost: push their versions again."""


def make(settings: Settings, target: Path, *, blobs: bool = True) -> Made:
    """Write a backup of the registry at `settings.data`.

    Raises InvalidError if there is none, ForeignDatabaseError if its schema is not this program's,
    DatabaseError, StoreError, SpaceError; then there is no new file.
    """
    if not (settings.authority_directory / "ca.key").is_file():
        raise InvalidError("data", str(settings.data), "name the directory of a registry")
    if not target.parent.is_dir():
        raise InvalidError("output", str(target), "name a file in a directory that exists")
    engine = database.open_engine(settings.url_of_database)
    try:
        with files.explaining_full_disk(target, 1 << 20):
            return _Making(settings, engine).run(target, blobs=blobs)
    finally:
        engine.dispose()


class _Making:
    """One backup on its way."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings, self._engine = settings, engine
        self._touched_at = 0.0
        self._wanted: Sequence[Digest] = ()

    def run(self, target: Path, *, blobs: bool) -> Made:
        with (
            tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch,
            container.writing(target) as writer,
        ):
            self._blobs = Blobs(_open_store(self._settings, Path(scratch)))
            created_at, schema, stored = self._rows(writer, Path(scratch))
            authority = self._settings.authority_directory
            for directory in (authority, self._settings.secrets_directory):
                for path in sorted(directory.iterdir()):
                    if path.is_file() and not path.name.startswith("."):
                        writer.add_file(f"{directory.name}/{path.name}", path)
            wanted = self._wanted if blobs else ()
            missing = tuple(self._copy(writer, wanted))
            manifest = Manifest(
                format=container.FORMAT,
                created_at=created_at,
                packhorse=importlib.metadata.version("packhorse"),
                schema=schema,
                fingerprint=tls.fingerprint((authority / "ca.pem").read_text("ascii")),
                blobs=blobs,
                tables=stored,
                members=tuple(writer.members),
                missing=missing,
            )
            writer.finish(manifest)
        count = sum(table.rows for table in stored)
        return Made(target.stat().st_size, count, len(wanted) - len(missing), missing)

    def _rows(self, writer: Writer, scratch: Path) -> tuple[float, str, tuple[Rows, ...]]:
        """Write the rows of one moment; know from then on which blobs they refer to."""
        with self._engine.connect() as connection:
            self._require_schema(database.revision(connection))
            first = set(connection.execute(select(col(tables.BundleBlob.blob))).scalars())
        self._touch(sorted(first))
        with database.reading(self._engine) as session:
            connection = session.connection()
            database.without_limits(connection)
            self._wanted = self._blobs_of(connection)
            created_at = time.time()
            stored = tuple(
                _table(connection, table, writer, scratch)
                for table in rows.tables()
                if table.name not in DERIVED
            )
        return created_at, database.head(), stored

    def _require_schema(self, present: str | None) -> None:
        if present is None:
            raise InvalidError("data", str(self._settings.data), "its database is empty")
        if present != database.head():
            raise ForeignDatabaseError(
                f"database: its schema is {present}, this program's {database.head()}: "
                "start the registry once with this Packhorse, or use the one that runs"
            )

    def _blobs_of(self, connection: Connection) -> Sequence[Digest]:
        query = select(col(tables.BundleBlob.blob)).distinct().order_by(tables.BundleBlob.blob)
        return [Digest(digest) for digest in connection.execute(query).scalars()]

    def _copy(self, writer: Writer, wanted: Sequence[Digest]) -> Iterator[Digest]:
        """Add the blobs; yield those that are not there. Raises IntegrityError for other bytes."""
        for digest in wanted:
            if time.monotonic() - self._touched_at > TOUCH_S:
                self._touch(wanted)
            size = self._blobs.find(digest)
            if size is None:
                yield digest
                continue
            writer.add(f"blobs/{digest}", size, self._blobs.read(digest))
            if (got := writer.members[-1].sha256) != digest:
                raise IntegrityError("blob in the store", wanted=digest, got=got)

    def _touch(self, wanted: Sequence[str]) -> None:
        for batch in batches(wanted):
            with database.transaction(self._engine) as session:
                row = tables.Blob
                session.exec(
                    update(row)
                    .where(col(row.sha256).in_(batch), col(row.deleting).is_(False))
                    .values(touched_at=time.time())
                )
        self._touched_at = time.monotonic()


def _open_store(settings: Settings, scratch: Path) -> ObjectStore:
    """Return the store without what a registry at work keeps for itself."""
    if settings.blobs_url is None:
        return Directory(settings.data, sweep=False)
    return open_store(settings.model_copy(update={"data": files.make_directory(scratch / "store")}))


def _table(connection: Connection, table: Table, writer: Writer, scratch: Path) -> Rows:
    name, path = table.name, scratch / table.name
    with path.open("w+b") as file:
        count = rows.write(connection, table, file)
        file.flush()
        writer.add_file(f"rows/{name}", path)
    path.unlink()
    return Rows(str(name), rows.columns(table), count)
