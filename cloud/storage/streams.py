"""Bytes on their way into files, and out of several."""

import hashlib
from pathlib import Path
from typing import BinaryIO

from runtime import digests
from runtime.bundle.blobs import Readable
from runtime.digests import Digest
from runtime.errors import IntegrityError


class Joined:
    """Files read one after the other."""

    def __init__(self, paths: list[Path]) -> None:
        self._left = iter(paths)
        self._file: BinaryIO | None = None

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        while True:
            if self._file is None:
                path = next(self._left, None)
                if path is None:
                    return b""
                self._file = path.open("rb")
            if data := self._file.read(size):
                return data
            self.close()

    def close(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()
            self._file = None


def receive(what: str, stream: Readable, file: BinaryIO, size: int, sha256: Digest) -> None:
    """Write a stream to a file; raise IntegrityError unless it has this size and digest."""
    got, left = hashlib.sha256(), size
    while left >= 0 and (chunk := stream.read(min(digests.CHUNK_BYTES, left + 1))):
        left -= len(chunk)
        got.update(chunk)
        file.write(chunk)
    if left:
        came = "more" if left < 0 else f"{size - left} bytes"
        raise IntegrityError(what, wanted=f"{size} bytes", got=came)
    if got.hexdigest() != sha256:
        raise IntegrityError(what, wanted=sha256, got=got.hexdigest())
