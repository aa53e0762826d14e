"""Objects as files below one directory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cloud.errors import NotFoundError
from cloud.storage.objects import Stored
from runtime import files

_READ_BYTES = 256 * 1024
_SCRATCH = "incoming"
_READ_ONLY = 0o400


class Directory:
    """An ObjectStore: each key is a relative path. Only the owner can read what is there."""

    def __init__(self, root: Path, *, sweep: bool = True) -> None:
        """Use (and make, if it is missing) this directory; sweep away what was never finished.

        Without `sweep`, another process may be at work there, and storing things.
        """
        self._root = files.make_directory(root)
        for left in self.scratch().iterdir() if sweep else ():
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
        self._make_durable(target.parent)
        with path.open("rb") as file:
            files.fsync_file(file.fileno(), path)
        path.chmod(_READ_ONLY)
        files.commit_point("rename", target)
        path.rename(target)
        files.fsync_directory(target.parent)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`; raise NotFoundError if there is no object."""
        with self.local(key) as path, _opened(path, key) as file:
            file.seek(start)
            left = None if stop is None else stop - start
            while chunk := file.read(
                _READ_BYTES if left is None else max(0, min(_READ_BYTES, left))
            ):
                left = None if left is None else left - len(chunk)
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
        path = self._path(key)
        if path.exists():
            files.remove(path)
            # A deleted object must not come back after a power cut: nobody would know of it.
            files.fsync_directory(path.parent)

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose keys begin with this, in any order."""
        above = prefix.rpartition("/")[0]
        folder = self._path(above) if above else self._root
        for path in folder.rglob("*"):
            key = path.relative_to(self._root).as_posix()
            with contextlib.suppress(FileNotFoundError):  # deleted just now
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
        return self._root / files.relative_path(key, "key")

    def _make_durable(self, folder: Path) -> None:
        """Make a directory below the root; when it is there, so is its entry after a power cut."""
        if folder.is_dir():
            return
        self._make_durable(folder.parent)
        files.make_directory(folder)
        files.fsync_directory(folder.parent)


@contextlib.contextmanager
def _opened(path: Path, key: str) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise NotFoundError("object", key) from error
    with file:
        yield file
