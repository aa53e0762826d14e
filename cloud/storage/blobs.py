"""The registry's blobs: objects named by the SHA-256 of their bytes, each stored once."""

import contextlib
import hashlib
import io
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from cloud.errors import NotFoundError
from cloud.storage.objects import ObjectStore
from runtime import digests, files
from runtime.bundle.blobs import Readable
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

ROOT = "blobs/"
_DIGEST_CHARS = 64


def key_of(digest: Digest) -> str:
    """Return the key of a blob."""
    name = digests.parse(digest, "blob")
    return f"{ROOT}{name[:2]}/{name}"


class Blobs:
    """All blobs of one registry. Any thread may use it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is here."""
        return self.find(digest) is not None

    def find(self, digest: Digest) -> int | None:
        """Return a blob's size in bytes; None if it is not here."""
        return self._store.size(key_of(digest))

    def size(self, digest: Digest) -> int:
        """Return a blob's size in bytes; raise InvalidError if it is not here."""
        size = self.find(digest)
        if size is None:
            raise _missing(digest)
        return size

    def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield a blob's bytes; raise InvalidError if it is not here."""
        try:
            yield from self._store.read(key_of(digest), start, stop)
        except NotFoundError as error:
            raise _missing(digest) from error

    def bytes_of(self, digest: Digest, *, limit_bytes: int) -> bytes:
        """Return a small blob; raise InvalidError if it is not here or larger than that."""
        if self.size(digest) > limit_bytes:
            raise InvalidError("blob", digest, f"it has more than {limit_bytes} bytes")
        return b"".join(self.read(digest))

    @contextlib.contextmanager
    def local(self, digest: Digest) -> Iterator[Path]:
        """Give a file with a blob's bytes, to be read only; raise InvalidError if not here."""
        with contextlib.ExitStack() as opened:
            try:
                path = opened.enter_context(self._store.local(key_of(digest)))
            except NotFoundError as error:
                raise _missing(digest) from error
            yield path

    def digests(self) -> Iterator[Digest]:
        """Yield every blob that is here."""
        for digest, _size in self.all():
            yield digest

    def all(self) -> Iterator[tuple[Digest, int]]:
        """Yield every blob that is here, with its size in bytes."""
        for stored in self._store.list(ROOT):
            name = stored.key.rpartition("/")[2]
            if len(name) == _DIGEST_CHARS:
                yield Digest(name), stored.size

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
        key = key_of(digest)
        if (size := self._store.size(key)) is not None:
            return size
        scratch = self._store.scratch()
        path = scratch / f"{digest}.{os.getpid()}.{secrets.token_hex(4)}"
        with files.explaining_full_disk(scratch, limit_bytes), contextlib.ExitStack() as opened:
            opened.callback(files.remove, path)
            size = _receive(digest, stream, path, limit_bytes)
            self._store.put_file(key, path)
        return size

    def delete(self, digest: Digest) -> None:
        """Forget a blob; one that is not here is fine."""
        self._store.delete(key_of(digest))


def _receive(digest: Digest, stream: Readable, path: Path, limit_bytes: int) -> int:
    """Write a stream to a file; raise IntegrityError unless it has this digest."""
    size, sha256 = 0, hashlib.sha256()
    with path.open("xb") as file:
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


def _missing(digest: Digest) -> InvalidError:
    return InvalidError("blob", digest, "this store does not have it")
