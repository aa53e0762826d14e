"""Encoded blobs that neighbours may have: what is being fetched, and what was fetched lately.

    {data}/downloads/…                  on its way: parts that are checked
    {data}/shared/<table digest>        fetched and unpacked; kept encoded for the others
    {data}/shared/<table digest>.table  its part table

What is kept is bounded, the oldest goes first, and all of it goes when the disk is needed.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_agent.bundles.partfile import PartFile
from runtime import digests, files
from runtime.bundle import parts
from runtime.bundle.parts import PartTable
from runtime.digests import Digest
from runtime.errors import InvalidError

log = logging.getLogger(__name__)

TABLE_SUFFIX = ".table"


@dataclass(frozen=True)
class Have:
    """What of one encoding is here."""

    parts: frozenset[int]
    bytes: int
    """Also those of parts that are not whole yet: a neighbour sees that it grows."""


class State(msgspec.Struct, frozen=True):
    """The same as it is told to a neighbour."""

    parts: str
    """A bitmap, hexadecimal."""
    bytes: int


class Shelf:
    """Any thread may ask; the thread that fetches puts."""

    def __init__(self, directory: Path, *, cap_bytes: int) -> None:
        """Keep at most `cap_bytes` in `directory`, which lies on the downloads' file system."""
        self._directory, self._cap_bytes = files.make_directory(directory), cap_bytes
        self._lock = threading.Lock()
        self._opened: dict[Digest, PartFile] = {}
        files.sweep_temporaries(directory)
        self._bound()

    @contextlib.contextmanager
    def open(self, table: Digest, part_file: PartFile) -> Iterator[None]:
        """Let neighbours have what is right of a download, as long as the block lasts."""
        with self._lock:
            self._opened[table] = part_file
        try:
            yield
        finally:
            with self._lock:
                self._opened.pop(table, None)

    def keep(self, table: Digest, part_file: PartFile) -> None:
        """Take over the file of a download that has served."""
        if part_file.table.encoded_size > self._cap_bytes:
            return
        with contextlib.suppress(OSError), self._lock:
            # No durable write: after a power cut a file that is not whole gives no part.
            (self._directory / f"{table}{TABLE_SUFFIX}").write_bytes(parts.encode(part_file.table))
            part_file.path.rename(self._directory / table)
            self._opened.pop(table, None)
        self._bound()

    def have(self, table: Digest) -> Have | None:
        """Return what of an encoding is here; None: nothing was ever."""
        with self._lock:
            if (part_file := self._opened.get(table)) is not None:
                return Have(frozenset(part_file.right()), part_file.came_bytes())
        kept = self._kept(table)
        return None if kept is None else Have(frozenset(range(len(kept.parts))), kept.encoded_size)

    def read(self, table: Digest, part: int) -> bytes | None:
        """Return a part, if it is here."""
        with self._lock:
            part_file = self._opened.get(table)
            if part_file is not None:
                if part not in part_file.right():
                    return None
                known, path = part_file.table, part_file.path
            else:
                kept = self._kept(table)
                if kept is None or not 0 <= part < len(kept.parts):
                    return None
                known, path = kept, self._directory / table
            start, stop = known.span(part)
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    data = file.read(stop - start)
            except OSError:
                return None
        return data if digests.of_bytes(data) == known.parts[part] else None

    def clear(self) -> None:
        """Give the disk back."""
        with self._lock:
            for path in self._directory.iterdir():
                files.remove(path)

    def _kept(self, table: Digest) -> PartTable | None:
        try:
            size = (self._directory / table).stat().st_size
            data = (self._directory / f"{table}{TABLE_SUFFIX}").read_bytes()
            known = parts.decode(data)
        except (OSError, InvalidError):
            return None
        return known if size == known.encoded_size else None

    def _bound(self) -> None:
        """Remove what was kept longest, until the rest is within the cap."""
        with self._lock:
            found = [path for path in self._directory.iterdir() if path.suffix != TABLE_SUFFIX]
            found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
            total = 0
            for path in found:
                total += path.stat().st_size
                if total > self._cap_bytes:
                    files.remove(path)
                    files.remove(path.with_name(f"{path.name}{TABLE_SUFFIX}"))
            for path in self._directory.glob(f"*{TABLE_SUFFIX}"):
                if not path.with_suffix("").exists():
                    files.remove(path)
