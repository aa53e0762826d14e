"""Where the registry keeps bytes: objects named by keys, in a directory or in a bucket.

    blobs/ab/abcdef…                              the files of bundles, by digest
    encodings/zstd/ab/abcdef….data, ….parts       blobs as they travel
    encodings/tensor-delta/ab/abcdef….BASE.data   the same, for receivers that have BASE

An object appears whole or not at all and is never changed, only replaced by the same bytes or
deleted. cloud.storage.blobs and cloud.storage.encodings know what the keys mean.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Stored:
    """An object in a list."""

    key: str
    size: int
    modified_at: float
    """Seconds since 1970, by the store's clock."""


class ObjectStore(Protocol):
    """A place for objects. Any thread may use it."""

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes; None if there is none."""
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Durably store the bytes of a file; `path` may be gone afterwards.

        Raises SpaceError if there is no room, StoreError if the store cannot be reached.
        """
        ...

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`; raise NotFoundError if there is no object."""
        ...

    def local(self, key: str) -> contextlib.AbstractContextManager[Path]:
        """Give a file with the object's bytes, to be read only, while the context is open.

        Raises NotFoundError if there is no object.
        """
        ...

    def delete(self, key: str) -> None:
        """Forget an object; one that is not there is fine."""
        ...

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose keys begin with this, in any order."""
        ...

    def url(self, key: str, *, ttl_s: float) -> str | None:
        """Return a URL by which anybody can GET the object for a while; None: we serve it."""
        ...

    def scratch(self) -> Path:
        """Return a directory for files that are about to be stored, on the store's file system."""
        ...
