"""Bytes to and from the registry, by the client."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

import httpx2
import zstandard

from cloud.client.calls import Calls
from cloud.errors import AbsentError
from cloud.transport import path_of
from runtime import digests, files
from runtime.digests import Digest
from runtime.errors import IntegrityError

Progress = Callable[[int], None]
"""Is told how many more bytes of content have passed; negative when an attempt was in vain."""

_UPLOAD_LEVEL = 3


class BlobCalls(Calls):
    """Blobs, by digest."""

    def has_blob(self, digest: Digest) -> bool:
        """Say whether the registry has a blob."""
        try:
            self._transport.call("HEAD", path_of("/blobs/{}", digest))
        except AbsentError:
            return False
        return True

    def put_blob(self, digest: Digest, path: Path, progress: Progress = lambda _: None) -> None:
        """Upload a file, compressed on the way."""

        def attempt() -> httpx2.Response:
            with path.open("rb") as file, _Undo(progress) as counted:
                return self._transport.http.put(
                    path_of("/blobs/{}", digest),
                    content=_compressed(file, counted.add),
                    headers={"Content-Encoding": "zstd"},
                )

        self._transport.attempt(attempt, again=True)

    def fetch_blob(
        self, digest: Digest, target: Path, *, mode: int, progress: Progress = lambda _: None
    ) -> None:
        """Download a blob to `target`, durably; raise IntegrityError if its bytes are wrong."""

        def attempt() -> httpx2.Response:
            with (
                self._transport.http.stream("GET", path_of("/blobs/{}", digest)) as answer,
                _Undo(progress) as counted,
            ):
                if not answer.is_success:
                    answer.read()
                    return answer
                got = hashlib.sha256()
                with files.replacing(target, mode=mode) as file:
                    for chunk in answer.iter_bytes(digests.CHUNK_BYTES):
                        got.update(chunk)
                        file.write(chunk)
                        counted.add(len(chunk))
                    if got.hexdigest() != digest:
                        raise IntegrityError(str(target), wanted=digest, got=got.hexdigest())
            return answer

        self._transport.attempt(attempt, again=True)


class _Undo:
    """Takes progress back unless the attempt that made it succeeds."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._progress(-self._done)

    def add(self, count: int) -> None:
        self._done += count
        self._progress(count)


def _compressed(file: BinaryIO, progress: Progress) -> Iterator[bytes]:
    compressor = zstandard.ZstdCompressor(level=_UPLOAD_LEVEL).compressobj()
    for chunk in digests.chunks(file):
        if piece := compressor.compress(chunk):
            yield piece
        progress(len(chunk))
    yield compressor.flush()
