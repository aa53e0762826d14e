"""Whether a bundle may be registered: what takes trust in its publisher is let in by a switch.

The bytes decide, not what the index says of them. Of each file no more than its beginning is read,
and only where an entry script is there to load it.
"""

import functools
import io
from collections.abc import Collection
from typing import BinaryIO, cast

from cloud.storage.blobs import Blobs
from runtime.bundle import pickles, policy
from runtime.bundle.index import FileEntry, Index

SWITCH = "start the registry with --allow {need} (or PACKHORSE_ALLOW={need})"
_BUFFER_BYTES = pickles.HEAD_BYTES


def require(blobs: Blobs, index: Index, allow: Collection[str]) -> None:
    """Raise InvalidError naming the switch if a bundle needs what this registry does not allow.

    All files that the index lists are in `blobs`.
    """
    found: tuple[str, ...] = ()
    if policy.scripts(index):
        found = pickles.find(
            {entry.path: functools.partial(_open, blobs, entry) for entry in index.files}
        )
    policy.require(index, found, allow, switch=SWITCH)


def _open(blobs: Blobs, entry: FileEntry) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(_Blob(blobs, entry), _BUFFER_BYTES))


class _Blob(io.RawIOBase):
    """A blob as a file: what is read is fetched, wherever it is kept."""

    def __init__(self, blobs: Blobs, entry: FileEntry) -> None:
        super().__init__()
        self._blobs, self._entry, self._at = blobs, entry, 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._entry.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Say where."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a buffer, typed as io gives it
        """Fill a buffer from here on; return how many bytes came."""
        stop = min(self._at + len(buffer), self._entry.size)
        if stop <= self._at:
            return 0
        data = b"".join(self._blobs.read(self._entry.sha256, self._at, stop))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
