"""Blobs on disk: files named by the SHA-256 of their bytes, each stored once.

    root/ab/abcdef…   read-only; written whole and durably, or not at all

Several threads and processes may read and write one store at once: whoever stores a blob that is
there already changes nothing.
"""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from runtime import digests, files
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

READ_ONLY = 0o400
"""Bundles on a device are hard links to blobs: nothing may write through them."""


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        ...


class BlobStore:
    """One directory of blobs."""

    def __init__(self, root: Path) -> None:
        """Use (and make, if it is missing) this directory."""
        self.root = files.make_directory(root)

    def sweep(self) -> None:
        """Remove what killed writers left behind. For the start, before anybody writes."""
        for shelf in self.root.glob("??"):
            files.sweep_temporaries(shelf)

    def path(self, digest: Digest) -> Path:
        """Return where a blob is or would be."""
        name = digests.parse(digest, "blob")
        return self.root / name[:2] / name

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is here."""
        return self.path(digest).is_file()

    def size(self, digest: Digest) -> int:
        """Return a blob's size in bytes; raise InvalidError if it is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as error:
            raise _missing(digest) from error

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading; raise InvalidError if it is not here."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError as error:
            raise _missing(digest) from error

    def digests(self) -> Iterator[Digest]:
        """Yield every blob that is here."""
        for path in self.root.glob("??/" + "[0-9a-f]" * 64):
            yield Digest(path.name)

    def put_bytes(self, data: bytes) -> Digest:
        """Store these bytes; return their digest."""
        digest = digests.of_bytes(data)
        self.put_stream(digest, io.BytesIO(data), limit_bytes=len(data))
        return digest

    def put_file(self, digest: Digest, path: Path) -> None:
        """Store a copy of a file; raise IntegrityError if its bytes are not those of `digest`."""
        with path.open("rb") as file:
            self.put_stream(digest, file, limit_bytes=path.stat().st_size)

    def put_stream(self, digest: Digest, stream: Readable, *, limit_bytes: int) -> int:
        """Store what is left in a stream; return its size.

        Nothing is read if the blob is here already. Raises IntegrityError, and leaves nothing, if
        the bytes are more than `limit_bytes` or not those of `digest`; SpaceError if the disk is
        full.
        """
        target = self.path(digest)
        if self.has(digest):
            return self.size(digest)
        size, sha256 = 0, hashlib.sha256()
        with files.explaining_full_disk(target.parent, limit_bytes):
            self._make_shelf(target.parent)
            with files.replacing(target, mode=READ_ONLY) as file:
                while chunk := stream.read(min(digests.CHUNK_BYTES, limit_bytes - size + 1)):
                    size += len(chunk)
                    if size > limit_bytes:
                        raise IntegrityError(
                            f"blob {digest}", wanted=f"at most {limit_bytes} bytes", got="more"
                        )
                    sha256.update(chunk)
                    file.write(chunk)
                if sha256.hexdigest() != digest:
                    raise IntegrityError("blob", wanted=digest, got=sha256.hexdigest())
        return size

    def check(self, digest: Digest) -> None:
        """Read a blob again; raise IntegrityError, and forget it, if the disk changed its bytes."""
        with self.open(digest) as file:
            got = digests.of_stream(file)
        if got != digest:
            self.delete(digest)
            raise IntegrityError(f"blob {digest} on disk", wanted=digest, got=got)

    def delete(self, digest: Digest) -> None:
        """Forget a blob; one that is not here is fine."""
        files.remove(self.path(digest))

    def _make_shelf(self, shelf: Path) -> None:
        if not shelf.is_dir():
            files.make_directory(shelf)
            files.fsync_directory(self.root)


def _missing(digest: Digest) -> InvalidError:
    return InvalidError("blob", digest, "this store does not have it")
