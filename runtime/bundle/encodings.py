"""How a blob travels: encoded, then cut into parts.

Decoding runs on the device: in bounded memory, and never writing more than was promised. Encoding
runs in the cloud, once per blob and encoding; its results are kept in an EncodingStore:

    root/zstd/ab/abcdef….data    the encoded bytes
    root/zstd/ab/abcdef….parts   their part table, written last: both are there, or neither counts
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from runtime import digests, files
from runtime.bundle import parts
from runtime.bundle.blobs import BlobStore
from runtime.bundle.parts import PartTable
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

ZSTD = "zstd"
DECODABLE = (ZSTD,)
"""What this version can decode, best first."""

_LEVEL = 10
MAX_WINDOW_BYTES = 8 << 20
"""What a decoder needs beside its buffers; no encoder may use more."""
_READ_BYTES = 256 * 1024
_REMEMBERED = 256


@dataclass(frozen=True)
class EncodedBlob:
    """One encoding of one blob, ready to be sent."""

    path: Path
    table: PartTable
    table_bytes: bytes
    table_sha256: Digest

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the encoded bytes from `start` up to `stop`, a piece at a time."""
        with self.path.open("rb") as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(_READ_BYTES, stop - start))):
                start += len(chunk)
                yield chunk


class EncodingStore:
    """Makes encodings on first use and keeps them. Any thread may call it."""

    def __init__(self, root: Path, blobs: BlobStore) -> None:
        """Keep encodings of these blobs below `root`; half-made ones are swept away."""
        self._root, self._blobs = files.make_directory(root), blobs
        self._ready: dict[tuple[Digest, str], EncodedBlob] = {}
        self._making: dict[tuple[Digest, str], threading.Lock] = {}
        self._guard = threading.Lock()
        for shelf in root.glob("*/??"):
            files.sweep_temporaries(shelf)

    def get(self, digest: Digest, encoding: str) -> EncodedBlob:
        """Return an encoding of a blob; made now if need be, in the time that its size takes.

        Two threads that ask at once make it once. Raises InvalidError if the blob is not there or
        the encoding is not known, SpaceError if the disk is full.
        """
        if encoding != ZSTD:
            raise InvalidError("encoding", encoding, f"ask for one of {', '.join(DECODABLE)}")
        key = (digest, encoding)
        if (ready := self._ready.get(key)) is not None and _is_whole(ready.path, ready.table):
            return ready
        with self._guard:
            making = self._making.setdefault(key, threading.Lock())
        try:
            with making:
                made = self._load(digest, encoding) or self._make(digest, encoding)
        finally:
            with self._guard:
                self._making.pop(key, None)
        self._remember(key, made)
        return made

    def delete(self, digest: Digest) -> None:
        """Forget every encoding of a blob."""
        for encoding in DECODABLE:
            data, table = self._paths(digest, encoding)
            files.remove(table)
            files.remove(data)
            with self._guard:
                self._ready.pop((digest, encoding), None)

    def _paths(self, digest: Digest, encoding: str) -> tuple[Path, Path]:
        name = digests.parse(digest, "blob")
        shelf = self._root / encoding / name[:2]
        return shelf / f"{name}.data", shelf / f"{name}.parts"

    def _load(self, digest: Digest, encoding: str) -> EncodedBlob | None:
        """Return what an earlier call made, if it is whole."""
        data, table_path = self._paths(digest, encoding)
        try:
            table_bytes = table_path.read_bytes()
            table = parts.decode(table_bytes)
        except (FileNotFoundError, InvalidError):
            return None
        if table.blob != digest or not _is_whole(data, table):
            return None
        return EncodedBlob(data, table, table_bytes, digests.of_bytes(table_bytes))

    def _make(self, digest: Digest, encoding: str) -> EncodedBlob:
        source, size = self._blobs.path(digest), self._blobs.size(digest)
        data, table_path = self._paths(digest, encoding)
        with files.explaining_full_disk(self._root / encoding, size):
            files.make_directory(data.parent)
            encode_zstd(source, data)
            with data.open("rb") as encoded:
                table_bytes = parts.encode(parts.cut(digest, size, encoding, encoded))
            files.write_atomic(table_path, table_bytes)
        made = self._load(digest, encoding)
        if made is None:
            raise IntegrityError(f"encoding of blob {digest}", wanted="what was made", got="other")
        return made

    def _remember(self, key: tuple[Digest, str], made: EncodedBlob) -> None:
        with self._guard:
            self._ready[key] = made
            if len(self._ready) > _REMEMBERED:
                del self._ready[next(iter(self._ready))]


def _is_whole(data: Path, table: PartTable) -> bool:
    """Say whether an encoded file is there, as long as its table says."""
    try:
        return data.stat().st_size == table.encoded_size
    except FileNotFoundError:
        return False


def encode_zstd(source: Path, target: Path) -> None:
    """Durably write `source`, compressed, to `target`: the same bytes every time.

    A device that is half-way through a download goes on even if this was made again.
    """
    size = source.stat().st_size
    compressor = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            _LEVEL, source_size=size, write_checksum=True
        )
    )
    with source.open("rb") as plain, files.replacing(target) as encoded:
        compressor.copy_stream(plain, encoded, size=size)


def decode(encoding: str, encoded: Path, target: BlobStore, *, size: int, sha256: Digest) -> None:
    """Durably store what an encoded file unfolds to.

    Raises IntegrityError, and leaves nothing, if that is more than `size` bytes or has another
    digest; InvalidError if the encoding is not known; SpaceError if the disk is full.
    """
    if encoding != ZSTD:
        raise InvalidError("encoding", encoding, f"this version reads {', '.join(DECODABLE)}")
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    try:
        with encoded.open("rb") as file, decompressor.stream_reader(file) as plain:
            target.put_stream(sha256, plain, limit_bytes=size)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"blob {sha256}", wanted="a zstd stream", got=str(error)) from error
