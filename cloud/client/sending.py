"""Files to the registry: several at once, large ones in parts, again from where it broke off."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx2
import zstandard

from cloud import shapes
from cloud.client.parallel import Lanes
from cloud.errors import AbsentError
from cloud.transport import Transport, path_of
from runtime import digests
from runtime.digests import Digest
from runtime.errors import InvalidError

SINGLE_BYTES = 8 << 20
"""A file up to this goes in one request."""
COMPLETE_TIMEOUT_S = 900.0
"""The registry reads all parts again before it answers."""
_LEVEL = 3
_WIRE_BYTES = 64 << 10

Count = Callable[[int], None]


@dataclass(frozen=True)
class _Part:
    """One part of one upload."""

    upload: shapes.Upload
    path: Path
    number: int

    def read(self) -> bytes:
        """Return its bytes."""
        with self.path.open("rb") as file:
            file.seek(self.number * self.upload.part_bytes)
            return file.read(self.upload.part_bytes)


class Sender:
    """Uploads files in lanes."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    def send(self, files: Mapping[Digest, Path]) -> None:
        """Upload all; raise InvalidError if a file is changed meanwhile."""
        large = {
            digest: path for digest, path in files.items() if path.stat().st_size > SINGLE_BYTES
        }
        small = [(digest, path) for digest, path in files.items() if digest not in large]
        self._lanes.run(self._send_small, small)
        for digest, path in large.items():
            self._send_large(digest, path)

    def _send_small(self, blob: tuple[Digest, Path]) -> None:
        put(self._lanes.transport, *blob, self._lanes.count)

    def _send_large(self, digest: Digest, path: Path) -> None:
        transport = self._lanes.transport
        wish = shapes.NewUpload(sha256=digest, size_bytes=path.stat().st_size)
        upload = transport.post("/uploads", shapes.Upload, wish, again=True)
        missing = sorted(set(range(upload.parts)) - set(upload.arrived))
        self._lanes.count(sum(_size(upload, number) for number in upload.arrived))
        self._lanes.run(self._send_part, [_Part(upload, path, number) for number in missing])
        self._complete(upload, path)

    def _send_part(self, part: _Part) -> None:
        transport, content = self._lanes.transport, part.read()
        packed = zstandard.ZstdCompressor(level=_LEVEL).compress(content)
        wire, headers = (
            (packed, {"Content-Encoding": "zstd"}) if len(packed) < len(content) else (content, {})
        )
        headers = {**headers, "Content-Length": str(len(wire))}

        def attempt() -> httpx2.Response:
            self._lanes.check()
            with counting(self._lanes.count) as counted:
                return counted.unless_refused(
                    transport.http.put(
                        path_of("/uploads/{}/parts/{}", part.upload.id, str(part.number)),
                        params={"sha256": digests.of_bytes(content)},
                        content=_paced(wire, len(content), counted.add),
                        headers=headers,
                    )
                )

        transport.attempt(attempt, again=True)

    def _complete(self, upload: shapes.Upload, path: Path) -> None:
        transport, url = self._lanes.transport, path_of("/uploads/{}/complete", upload.id)
        try:
            transport.call("POST", url, again=True, timeout=COMPLETE_TIMEOUT_S)
        except AbsentError as error:
            # An earlier attempt may have done it, and its answer was lost.
            if not has(transport, Digest(upload.sha256)):
                fix = "it changed while it was sent, or the registry gave up on it: push again"
                raise InvalidError("file", str(path), fix) from error


class Counted:
    """Progress that is taken back unless the attempt that made it succeeds."""

    def __init__(self, count: Count) -> None:
        self._count, self._done = count, 0

    def add(self, more: int) -> None:
        """Count so many bytes more."""
        self._done += more
        self._count(more)

    def undo(self) -> None:
        """Take everything back."""
        done, self._done = self._done, 0
        self._count(-done)

    def unless_refused(self, answer: httpx2.Response) -> httpx2.Response:
        """Return the answer; take everything back if it is a refusal."""
        if not answer.is_success:
            self.undo()
        return answer


@contextlib.contextmanager
def counting(count: Count) -> Iterator[Counted]:
    """Give what counts the bytes of one attempt; an error takes them back."""
    counted = Counted(count)
    try:
        yield counted
    except Exception:
        counted.undo()
        raise


def put(transport: Transport, digest: Digest, path: Path, count: Count) -> None:
    """Upload a file in one request, compressed on the way."""

    def attempt() -> httpx2.Response:
        with path.open("rb") as file, counting(count) as counted:
            return counted.unless_refused(
                transport.http.put(
                    path_of("/blobs/{}", digest),
                    content=_compressed(file, counted.add),
                    headers={"Content-Encoding": "zstd"},
                )
            )

    transport.attempt(attempt, again=True)


def has(transport: Transport, digest: Digest) -> bool:
    """Say whether the registry has a blob."""
    try:
        transport.call("HEAD", path_of("/blobs/{}", digest))
    except AbsentError:
        return False
    return True


def _compressed(file: BinaryIO, count: Count) -> Iterator[bytes]:
    compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    for chunk in digests.chunks(file):
        if piece := compressor.compress(chunk):
            yield piece
        count(len(chunk))
    yield compressor.flush()


def _paced(wire: bytes, content_bytes: int, count: Count) -> Iterator[bytes]:
    """Yield `wire` in pieces; count the content that each stands for once it is taken."""
    counted = 0
    for start in range(0, len(wire), _WIRE_BYTES):
        yield wire[start : start + _WIRE_BYTES]
        now = content_bytes * min(len(wire), start + _WIRE_BYTES) // len(wire)
        count(now - counted)
        counted = now


def _size(upload: shapes.Upload, number: int) -> int:
    return min(upload.part_bytes, upload.size_bytes - number * upload.part_bytes)
