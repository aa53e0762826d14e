"""`directory:PATH?pattern=*.png&scale=0.00392&then=delete`: files put into a directory.

PATH       below the inbox if relative; an absolute one must lie below a directory that the agent's
           settings allow. Left out: the inbox itself
pattern    which names are taken, as a shell does; all if left out
scale      what pixel values (0 to 255) are multiplied by; 1 if left out
then       delete (default) or move: what happens to a file when its record is durable;
           move keeps the newest 1000 in .done/

What the files may be: sources/decode.py. Put a file in by renaming it, or under a name that begins
with '.' or ends with .tmp or .part while it is written: others are taken once their size and time
stood still between two looks, by time and then name. A file that cannot be read goes to .bad/.

Each file has a number, one more than the last:

    FILE ─ record appended ─► .done/NUMBER~FILE ─ record durable ─► deleted, or .done/FILE

and a position names number, file, identity (inode, time, size) and row. A worker that died between
a record and the renaming left a file that the position names: it is renamed then, not read again.
A file in .done/ with a number above the position's lost its record in a power cut: it comes back.
So records are made exactly once, whenever a worker is killed; a power cut may repeat the files of
its last seconds, if the disk kept their records but not their renaming.

The directory is looked at every 0.5 s: the standard library has no inotify, and a network file
system would not tell.
"""

import contextlib
import fnmatch
import logging
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import msgspec

from edge_agent.worker.sources import Item, SourceError, Surroundings, decode, options
from edge_agent.worker.sources.shelf import BAD, DONE, Identity, Shelf, identity, shown
from runtime import files
from runtime.errors import InvalidError

log = logging.getLogger(__name__)

LOOK_S = 0.5
UNFINISHED = (".tmp", ".part")


class Position(msgspec.Struct, frozen=True):
    """The last row recorded."""

    n: int
    """The file's number."""
    file: str
    id: Identity
    row: int = 0
    """From 1; 0: the file is one input."""
    end: str = ""
    """Where the file goes if this was its last row: ".done" or ".bad"; "": there is more."""


_Row = tuple[int, Item, str]
"""Number (0: the file is one input), item, and where the file goes after it or ""."""


@dataclass(frozen=True)
class Settings:
    """What the URI says."""

    directory: Path
    pattern: str
    scale: float
    keep: bool


class DirectorySource:
    """Files in a directory, each once."""

    def __init__(self, settings: Settings, around: Surroundings) -> None:
        self._settings, self._around = settings, around
        self._directory = settings.directory
        self._seen: dict[str, Identity] = {}
        self._number = 0

    def items(self, position: str | None) -> Generator[Item, None, None]:
        """Yield one item per file, or per row of it, as they come in."""
        last = _parse(position)
        self._number = last.n if last is not None else 0
        self._shelf = Shelf(
            self._directory, keep=self._settings.keep, after_sync=self._around.after_sync
        )
        if last is not None and last.end:
            self._shelf.put_away_recorded(last.file, last.id, last.n, last.end)
            self._shelf.recover(last.n)
        else:
            self._shelf.recover(self._number - 1)  # rows of the last one are missing
        stopping = self._around.stopping
        while not stopping.is_set():
            for name, found in self._look():
                yield from self._file(name, found, last)
                if stopping.is_set():
                    return
            self._around.tell("")
            stopping.wait(LOOK_S)

    def _look(self) -> list[tuple[str, Identity]]:
        """Return the files that have not changed since the last look, oldest first."""
        seen = {}
        with os.scandir(self._directory) as entries:
            for entry in entries:
                name = entry.name
                wanted = fnmatch.fnmatchcase(name, self._settings.pattern)
                if name.startswith(".") or name.endswith(UNFINISHED) or not wanted:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        seen[name] = identity(entry.stat(follow_symlinks=False))
        ready = [(name, found) for name, found in seen.items() if self._seen.get(name) == found]
        self._seen = seen
        return sorted(ready, key=lambda one: (one[1][1], one[0]))

    def _file(
        self, name: str, found: Identity, last: Position | None
    ) -> Generator[Item, None, None]:
        """Yield what a file holds behind the last position, and put the file away."""
        number, done_rows = self._number + 1, 0
        if last is not None and (last.file, last.id) == (shown(name), found):
            number, done_rows = last.n, last.row
        end = ""
        for row, item, whither in self._rows(name, Position(n=number, file=shown(name), id=found)):
            self._number, end = number, whither
            if row > done_rows or not done_rows:
                yield item
        if end:
            self._shelf.put_away(name, number, end)

    def _rows(self, name: str, position: Position) -> Iterator[_Row]:
        """Yield each row; the last one, and only that, with where the file goes after it."""
        before: decode.Row | None = None
        try:
            with _open(self._directory / name) as file:
                if identity(os.fstat(file.fileno())) != position.id:
                    return  # it changed since the look: the next one sees it
                for row in decode.rows(name, file, self._around.signature, self._settings.scale):
                    if before is not None:
                        yield _row(before, position, "")
                    before = row
        except FileNotFoundError:
            return
        except (InvalidError, OSError) as error:
            number = None
            if before is not None:
                yield _row(before, position, "")
                number = (before.number or 0) + 1
            yield _row(decode.Row(number, None, str(error)), position, BAD)
        else:
            assert before is not None  # decode.rows() raises for an empty file
            yield _row(before, position, DONE)


def _row(row: decode.Row, position: Position, end: str) -> _Row:
    number = row.number or 0
    where = msgspec.structs.replace(position, row=number, end=end)
    item = Item(
        name=f"{position.file}:{number}" if number else position.file,
        inputs=row.inputs,
        position=msgspec.json.encode(where).decode(),
        error=row.error,
    )
    return number, item, end


def _open(path: Path) -> BinaryIO:
    """Open a file, but no link or pipe that took its place."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags), "rb")


def open_source(uri: str, around: Surroundings) -> DirectorySource:
    """Return the source; raise SourceError for a path that is not allowed or an option unknown."""
    parts = urlsplit(uri)
    given = options(uri, parts, ("pattern", "scale", "then"))
    then = given.get("then", "delete")
    if then not in {"delete", "move"}:
        raise SourceError(f"{uri}: then={then} is not known: use delete or move")
    try:
        scale = float(given.get("scale", "1"))
    except ValueError as error:
        raise SourceError(f"{uri}: scale is no number") from error
    directory = _allowed(uri, unquote(parts.path), around.roots)
    settings = Settings(
        directory=directory,
        pattern=given.get("pattern", "*"),
        scale=scale,
        keep=then == "move",
    )
    return DirectorySource(settings, around)


def _allowed(uri: str, path: str, roots: tuple[Path, ...]) -> Path:
    """Return the directory; raise SourceError unless it lies below a root, links resolved."""
    if not roots:
        raise SourceError(f"{uri}: this device has no inbox")
    inbox = roots[0]
    asked = inbox / path
    resolved = asked.resolve()
    if not any(resolved.is_relative_to(root.resolve()) for root in roots):
        allowed = ", ".join(map(str, roots))
        raise SourceError(f"{uri}: {resolved} is not below {allowed}: see the agent's settings")
    if not Path(path).is_absolute():
        files.make_directory(resolved, mode=0o770)
    if not resolved.is_dir():
        raise SourceError(f"{uri}: {resolved} is no directory: make it")
    return resolved


def _parse(position: str | None) -> Position | None:
    if position is None:
        return None
    try:
        return msgspec.json.decode(position, type=Position)
    except msgspec.DecodeError:
        log.warning("position not understood: begins anew", extra={"position": position[:200]})
        return None
