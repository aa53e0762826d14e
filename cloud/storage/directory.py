"""Objects as files below one directory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cloud.errors import NotFoundError
from cloud.storage.objects import Stored
from runtime import files

_READ_BYTES = 256 * 1024
_SCRATCH = "incoming"
_READ_ONLY = 0o400


class Directory:
    """An ObjectStore: each key is a relative path."""

    def __init__(self, root: Path) -> None:
        """Use (and make, if it is missing) this directory; sweep away what was never finished."""
        self._root = files.make_directory(root)
        for left in self.scratch().iterdir():
            files.remove(left)

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes; None if there is none."""
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return None

    def put_file(self, key: str, path: Path) -> None:
        """Durably store the bytes of a file in the scratch directory by moving it."""
        target = self._path(key)
        if not target.parent.is_dir():
            files.make_directory(target.parent)
            files.fsync_directory(target.parent.parent)
        with path.open("rb") as file:
            files.fsync_file(file.fileno(), path)
        path.chmod(_READ_ONLY)
        files.commit_point("rename", target)
        path.rename(target)
        files.fsync_directory(target.parent)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`; raise NotFoundError if there is no object."""
        with self.local(key) as path, path.open("rb") as file:
            file.seek(start)
            left = path.stat().st_size - start if stop is None else stop - start
            while left > 0 and (chunk := file.read(min(_READ_BYTES, left))):
                left -= len(chunk)
                yield chunk

    @contextlib.contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """Give the file itself; raise NotFoundError if there is none."""
        path = self._path(key)
        if not path.is_file():
            raise NotFoundError("object", key)
        yield path

    def delete(self, key: str) -> None:
        """Forget an object; one that is not there is fine."""
        files.remove(self._path(key))

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose keys begin with this, in any order."""
        folder = self._path(prefix.rpartition("/")[0])
        for path in folder.rglob("*"):
            key = path.relative_to(self._root).as_posix()
            if key.startswith(prefix) and path.is_file():
                status = path.stat()
                yield Stored(key, status.st_size, status.st_mtime)

    def url(self, key: str, *, ttl_s: float) -> str | None:  # noqa: ARG002 - the protocol's
        """Return None: the registry serves its own files."""
        return None

    def scratch(self) -> Path:
        """Return a directory on the same file system."""
        return files.make_directory(self._root / _SCRATCH)

    def _path(self, key: str) -> Path:
        return self._root / files.relative_path(key, "key") if key else self._root
