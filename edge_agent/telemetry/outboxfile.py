"""The outbox's SQLite file: opened, sized, set aside when damaged.

meta       epoch, and the format of this file
batches    what waits; AUTOINCREMENT never gives a number twice
dead       what killed every connection that it was sent on
cursors    how far each spool segment was taken over
positions  where each source goes on
drops      records not kept, by reason
"""

import contextlib
import errno
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runtime import files
from runtime.errors import PackhorseError, SpaceError

log = logging.getLogger(__name__)

PAGE_BYTES = 512
"""Small, for flash: a commit writes each page that it changed, however little changed in it."""
FOLD_BYTES = 256 << 10
"""At this size the log is folded into the file and written from its beginning again. It keeps this
size, so that a commit changes nothing that a file system would write to its own journal."""
WAL_BYTES = 3 << 20
"""What the write-ahead log takes at most: its threshold, and one more transaction."""
REPAGE_BYTES = 4 << 20
"""What may be written anew at the start."""
MAX_SET_ASIDE = 2
"""How many damaged files are kept; older ones make room."""

_FORMAT = "1"
_SETTINGS = f"""
    PRAGMA page_size = {PAGE_BYTES};
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA wal_autocheckpoint = {FOLD_BYTES // PAGE_BYTES};
    PRAGMA journal_size_limit = {4 * FOLD_BYTES};
    PRAGMA cache_size = -1024;
    PRAGMA foreign_keys = ON;
"""
_TABLES = """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE batches (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        class INTEGER NOT NULL,
        created REAL NOT NULL,
        records INTEGER NOT NULL,
        size INTEGER NOT NULL,
        body BLOB NOT NULL
    );
    CREATE INDEX batches_in_order ON batches (class, sequence, created, records, size);
    CREATE TABLE dead (
        sequence INTEGER NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL
    );
    CREATE TABLE cursors (
        module TEXT NOT NULL, segment TEXT NOT NULL, "end" INTEGER NOT NULL,
        PRIMARY KEY (module, segment)
    ) WITHOUT ROWID;
    CREATE TABLE positions (
        module TEXT NOT NULL, source TEXT NOT NULL, position TEXT NOT NULL,
        PRIMARY KEY (module, source)
    ) WITHOUT ROWID;
    CREATE TABLE drops (
        reason TEXT PRIMARY KEY, count INTEGER NOT NULL
    ) WITHOUT ROWID;
"""


class OutboxError(PackhorseError):
    """The outbox's file cannot be used right now."""

    retryable = True


@dataclass
class Progress:
    """What must not be lost with a damaged file, or records would come twice."""

    cursors: dict[tuple[str, str], int] = field(default_factory=dict)
    positions: dict[tuple[str, str], str] = field(default_factory=dict)


class OutboxFile:
    """An open file that was found sound."""

    def __init__(self, path: Path, rows: sqlite3.Connection) -> None:
        self._path = path
        self.rows = rows
        self.epoch: str
        (self.epoch,) = rows.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        self._page_bytes = self._pragma("page_size")

    @contextlib.contextmanager
    def transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Commit when the block ends well; when durable, a power cut after that changes nothing."""
        self.rows.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self.rows.execute("BEGIN IMMEDIATE")
        try:
            files.commit_point("begin", self._path)
            yield self.rows
            files.commit_point("commit", self._path)
            self.rows.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self.rows.execute("ROLLBACK")
            raise
        files.commit_point("committed", self._path)

    def progress(self) -> Progress:
        """Return all cursors and positions."""
        return _progress(self.rows)

    def used_bytes(self) -> int:
        """Return the size of the pages in use."""
        return self._pragma("page_count") * self._page_bytes - self.free_bytes()

    def free_bytes(self) -> int:
        """Return the size of the pages that wait for use or for `vacuum`."""
        return self._pragma("freelist_count") * self._page_bytes

    def disk_bytes(self) -> int:
        """Return what the file and its log take on the disk."""
        return sum(_size(path) for path in (self._path, _log_of(self._path)))

    def vacuum(self, size_bytes: int) -> None:
        """Give at most this much of the free pages back to the file system."""
        # execute() takes one step only, which frees one page; a script runs to its end.
        self.rows.executescript(f"PRAGMA incremental_vacuum({size_bytes // self._page_bytes})")

    def close(self) -> None:
        """Close it; SQLite folds the log into the file."""
        with contextlib.suppress(sqlite3.Error):
            self.rows.close()

    def _pragma(self, name: str) -> int:
        value: int = self.rows.execute(f"PRAGMA {name}").fetchone()[0]
        return value


def open_file(path: Path, known: Progress) -> OutboxFile:
    """Open or make the outbox's file; a damaged one is set aside for a new one.

    A new file starts with what is `known` and what can be read from the one set aside.
    Raises sqlite3.DatabaseError if the disk has no room or another process holds the file.
    """
    try:
        return _open(path, known)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        aside = set_aside(path)
        saved = _salvaged(aside)
        saved.cursors.update(known.cursors)
        saved.positions.update(known.positions)
        return _open(path, saved)


def is_damage(error: Exception) -> bool:
    """Say whether the file itself is broken: SQLITE_CORRUPT or SQLITE_NOTADB."""
    return type(error) is sqlite3.DatabaseError


def translated(error: Exception, path: Path) -> PackhorseError:
    """Return what an error of SQLite means for whoever wanted to use the outbox."""
    if "full" in str(error) or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
        free = 0
        with contextlib.suppress(OSError):
            free = files.free_bytes(path.parent)
        return SpaceError(str(path), needed_bytes=1 << 20, free_bytes=free)
    if is_damage(error):
        return OutboxError(f"outbox: {path} was damaged ({error}) and set aside: try again")
    return OutboxError(f"outbox: {path} cannot be used: {error}: see that one agent runs, and df")


def set_aside(path: Path) -> Path:
    """Rename a damaged file, for a person to look at; return its new name."""
    taken = [int(old.suffix[9:]) for old in all_set_aside(path)]
    aside = path.with_name(f"{path.name}.corrupt-{max(taken, default=0) + 1}")
    log.error("outbox damaged, set aside", extra={"path": str(path), "aside": str(aside)})
    with contextlib.suppress(FileNotFoundError):
        _log_of(path).rename(_log_of(aside))
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
    for old in all_set_aside(path)[:-MAX_SET_ASIDE]:
        for suffix in ("", "-wal", "-shm"):
            files.remove(old.with_name(old.name + suffix))
    return aside


def all_set_aside(path: Path) -> list[Path]:
    """Return the damaged files that were set aside and are still there, oldest first."""
    found = [
        old for old in path.parent.glob(f"{path.name}.corrupt-*") if old.suffix[9:].isdecimal()
    ]
    return sorted(found, key=lambda old: int(old.suffix[9:]))


def _open(path: Path, start: Progress) -> OutboxFile:
    files.make_directory(path.parent)
    # SQLite gives its log the rights of the file, so the file must have them first.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    rows = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    try:
        rows.executescript(_SETTINGS)
        _require_sound(rows)
        _repage(rows)
        _make(rows, start)
        return OutboxFile(path, rows)
    except BaseException:
        rows.close()
        raise


def _require_sound(rows: sqlite3.Connection) -> None:
    (found,) = rows.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _repage(rows: sqlite3.Connection) -> None:
    """Write a file anew that an earlier version made of larger pages, unless it is large."""
    (size,) = rows.execute("PRAGMA page_size").fetchone()
    (count,) = rows.execute("PRAGMA page_count").fetchone()
    if size == PAGE_BYTES or size * count > REPAGE_BYTES:
        return
    # Without room for it the file stays as it is, and works.
    with contextlib.suppress(sqlite3.OperationalError):
        rows.executescript(
            f"PRAGMA journal_mode = DELETE; PRAGMA page_size = {PAGE_BYTES}; VACUUM;"
        )
    rows.execute("PRAGMA journal_mode = WAL")


def _make(rows: sqlite3.Connection, start: Progress) -> None:
    """Make what is missing, all in one transaction; a format from the future counts as damage."""
    (known,) = rows.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()
    if known:
        (found,) = rows.execute("SELECT value FROM meta WHERE key = 'format'").fetchone() or ("",)
        if found == _FORMAT:
            return
        raise sqlite3.DatabaseError(f"format {found!r} is not {_FORMAT!r}")
    rows.execute("PRAGMA synchronous = FULL")
    rows.executescript("BEGIN IMMEDIATE;" + _TABLES)
    with rows:
        rows.executemany(
            "INSERT INTO meta VALUES (?, ?)",
            [("epoch", secrets.token_hex(8)), ("format", _FORMAT)],
        )
        rows.executemany(
            "INSERT INTO cursors VALUES (?, ?, ?)",
            [(*key, end) for key, end in start.cursors.items()],
        )
        rows.executemany(
            "INSERT INTO positions VALUES (?, ?, ?)",
            [(*key, position) for key, position in start.positions.items()],
        )


def _salvaged(path: Path) -> Progress:
    """Return what can still be read of a damaged file's progress."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as rows:
            return _progress(rows)
    except sqlite3.Error as error:
        log.warning("no progress saved", extra={"path": str(path), "error": str(error)})
        return Progress()


def _progress(rows: sqlite3.Connection) -> Progress:
    cursors = rows.execute('SELECT module, segment, "end" FROM cursors')
    positions = rows.execute("SELECT module, source, position FROM positions")
    return Progress(
        {(module, segment): end for module, segment, end in cursors},
        {(module, source): position for module, source, position in positions},
    )


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
