"""Where the files of a directory source go once they are read.

    FILE ─ record appended ─► .done/NUMBER~FILE ─ record durable ─► deleted, or .done/FILE
    FILE that cannot be read ─ record of that appended ─► .bad/FILE

Why the number: see sources/directory.py. `keep` is then=move.
"""

import contextlib
import functools
import logging
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from runtime import files

log = logging.getLogger(__name__)

KEPT = 1000
"""How many files .done/ (then=move) and .bad/ keep; a tenth more between two clean-ups."""
DONE, BAD = ".done", ".bad"
MAX_NAME_BYTES = 240
"""Of a name that gets a number before it; the rest of 255 is for that."""

Identity = tuple[int, int, int]
"""Inode, time of the last change in ns, size."""

_PENDING = re.compile(r"(\d{12})~(.*)", re.DOTALL)


class Shelf:
    """The hidden directories beside the files."""

    def __init__(
        self, directory: Path, *, keep: bool, after_sync: Callable[[Callable[[], None]], None]
    ) -> None:
        """Make them where they are missing."""
        self._directory, self._keep, self._after_sync = directory, keep, after_sync
        self._done = files.make_directory(directory / DONE)
        self._bad = files.make_directory(directory / BAD)
        self._finished = 0

    def put_away(self, name: str, number: int, where: str) -> None:
        """Take a file whose last record is appended out of the directory: to DONE or BAD."""
        if where == BAD:
            with contextlib.suppress(FileNotFoundError):  # somebody else took it away
                (self._directory / name).rename(self._bad / name)
            prune(self._bad)
            return
        pending = self._done / f"{number:012d}~{_short(name)}"
        with contextlib.suppress(FileNotFoundError):
            (self._directory / name).rename(pending)
            self._after_sync(functools.partial(self._finish, pending))

    def put_away_recorded(self, shown_name: str, found: Identity, number: int, where: str) -> None:
        """Do what a worker that died after a file's last record did not come to."""
        for path in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if shown(path.name) == shown_name and identity(path.lstat()) == found:
                    self.put_away(path.name, number, where)

    def recover(self, recorded: int) -> None:
        """Finish the files up to this number; put back those above it, whose records are lost."""
        for pending in sorted(self._done.iterdir()):
            parts = _PENDING.fullmatch(pending.name)
            if parts is None:
                continue
            if int(parts[1]) <= recorded:
                self._after_sync(functools.partial(self._finish, pending))
                continue
            log.warning("file comes back: its record was lost", extra={"file": shown(parts[2])})
            pending.rename(_free(self._directory, parts[2], parts[1]))

    def _finish(self, pending: Path) -> None:
        """Delete or keep a file whose record is durable."""
        if not self._keep:
            pending.unlink(missing_ok=True)
            return
        number, _, name = pending.name.partition("~")
        with contextlib.suppress(FileNotFoundError):
            pending.rename(_free(self._done, name, number))
        self._finished += 1
        if self._finished % (KEPT // 10) == 0:
            prune(self._done)


def prune(directory: Path) -> None:
    """Keep the newest files only; those whose record is not durable yet stay in any case."""
    aged = sorted(
        (path for path in directory.iterdir() if not _PENDING.fullmatch(path.name)),
        key=lambda path: path.lstat().st_mtime_ns,
    )
    for path in aged[:-KEPT]:
        path.unlink(missing_ok=True)


def identity(found: os.stat_result) -> Identity:
    """Return what tells a file from a later one of the same name."""
    return (found.st_ino, found.st_mtime_ns, found.st_size if stat.S_ISREG(found.st_mode) else -1)


def shown(name: str) -> str:
    """Return a file name as text that can travel, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _short(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[-MAX_NAME_BYTES:])


def _free(directory: Path, name: str, number: str) -> Path:
    """Return a path in the directory that overwrites nothing."""
    path = directory / name
    return directory / f"{number}-{name}" if path.exists() else path
