"""Files that stand for objects kept elsewhere: the least recently used go when there are too many.

    root/2c26b46b…            one object, whole; named by the SHA-256 of its key
    root/.2c26b46b….….tmp     being fetched

It holds nothing that cannot be fetched again, so nothing in it is fsynced; what a killed process
left is used by the next one, but for what was unfinished.
"""

import contextlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

from runtime import digests, files

Fetch = Callable[[Path], None]
"""Writes an object's bytes to a file that is not there yet."""


class FileCache:
    """Files by key, in at most so many bytes. Any thread may use it; one process per directory."""

    def __init__(self, root: Path, *, limit_bytes: int) -> None:
        """Go on with what the directory holds."""
        self._root, self._limit = files.make_directory(root), limit_bytes
        self._guard = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._used: Counter[str] = Counter()
        self._fetching: dict[str, threading.Lock] = {}
        files.sweep_temporaries(self._root)
        found = [(path.stat(), path) for path in self._root.iterdir() if path.is_file()]
        for status, path in sorted(found, key=lambda each: each[0].st_mtime):
            self._sizes[path.name] = status.st_size
        self._evict()

    @contextlib.contextmanager
    def held(self, key: str, fetch: Fetch) -> Iterator[Path]:
        """Give the file for a key, fetched if it is not here; it stays while the context is open.

        Threads that ask at once fetch it once. Raises what `fetch` raises, SpaceError if the disk
        is full.
        """
        name = digests.of_bytes(key.encode())
        with self._guard:
            self._used[name] += 1
        try:
            self._provide(name, fetch)
            yield self._root / name
        finally:
            with self._guard:
                self._used[name] -= 1
                self._used += Counter()  # drops the zeros
            self._evict()

    def adopt(self, key: str, path: Path) -> None:
        """Move a file with an object's bytes, on the same file system, into the cache."""
        name = digests.of_bytes(key.encode())
        size = path.stat().st_size
        path.replace(self._root / name)
        self._keep(name, size)
        self._evict()

    def forget(self, key: str) -> None:
        """Drop an object; who holds it may go on reading an open file."""
        name = digests.of_bytes(key.encode())
        with self._guard:
            self._sizes.pop(name, None)
            (self._root / name).unlink(missing_ok=True)

    def _provide(self, name: str, fetch: Fetch) -> None:
        if self._touch(name):
            return
        with self._guard:
            fetching = self._fetching.setdefault(name, threading.Lock())
        try:
            with fetching:
                if not self._touch(name):
                    self._fetch(name, fetch)
        finally:
            with self._guard:
                self._fetching.pop(name, None)

    def _touch(self, name: str) -> bool:
        """Say whether the file is here; if so, it was used last."""
        with self._guard:
            if name not in self._sizes or not (self._root / name).exists():
                return False
            self._sizes.move_to_end(name)
            return True

    def _fetch(self, name: str, fetch: Fetch) -> None:
        thread = threading.get_ident()
        temporary = self._root / f".{name}.{thread}{files.TEMPORARY_SUFFIX}"
        try:
            fetch(temporary)
            size = temporary.stat().st_size
            temporary.replace(self._root / name)
        finally:
            temporary.unlink(missing_ok=True)
        self._keep(name, size)

    def _keep(self, name: str, size: int) -> None:
        with self._guard:
            self._sizes[name] = size
            self._sizes.move_to_end(name)

    def _evict(self) -> None:
        """Drop what was not used for longest, and is not in use, until the rest fits."""
        with self._guard:
            surplus = sum(self._sizes.values()) - self._limit
            for name in list(self._sizes):
                if surplus <= 0:
                    return
                if name not in self._used:
                    surplus -= self._sizes.pop(name)
                    (self._root / name).unlink(missing_ok=True)
