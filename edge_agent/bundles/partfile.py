"""A download on disk, from its first byte to its last, across every cut.

    work/<blob>.<encoding>.part          the encoded bytes, each part in its place
    work/<blob>.<encoding>.bits          which parts are checked and durable
    work/<blob>.<encoding>.<base>.part   the same, for an encoding that builds on a base

Bytes go into the file as they arrive, so that a killed process loses next to nothing; a part counts
only when all of it has the digest that its table names. The bitmap is written after the parts it
speaks of are durable, so it never promises what a power cut took. It only saves work: where it is
missing, damaged or of another table, the file is read and compared with the table instead.
"""

import contextlib
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_agent.bundles import doubts
from runtime import digests, files
from runtime.bundle.parts import PartTable
from runtime.digests import Digest
from runtime.errors import SpaceError

PART_SUFFIX, BITMAP_SUFFIX = ".part", ".bits"
SYNC_PARTS = 4
SYNC_S = 1.0
"""Parts become durable together: this many, or those of this time."""

_MAGIC = b"PHB1"
_HEAD = struct.Struct(">4s32sI")
_CRC = struct.Struct(">I")


class PartFile:
    """One partial download, bound to one part table; for one thread. Close it."""

    def __init__(
        self, work: Path, table: PartTable, parts_sha256: Digest, base: Digest | None = None
    ) -> None:
        """Open what is there, or start anew; find out which parts are right."""
        self.table = table
        self.path, self._bitmap = paths(work, table.blob, table.encoding, base)
        self._parts_sha256 = parts_sha256
        self._unsynced = 0
        self._synced_at = time.monotonic()
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._length() > table.encoded_size:
            os.ftruncate(self._handle, table.encoded_size)
        self._have = self._load()
        self.done_bytes = sum(self._size(part) for part, have in enumerate(self._have) if have)
        """Bytes of the parts that are right."""
        # The file ends within the part that was on its way when the last process ended.
        last, rest = divmod(self._length(), table.part_size)
        # All of the last part, which is the short one, is right or of no use: never half of it.
        self._begun = (last, 0 if rest and rest == self._size(last) else rest)

    def close(self) -> None:
        """Make durable what is right, and let go of the file."""
        try:
            # Without room for the bitmap, the next start reads the file instead.
            with contextlib.suppress(SpaceError):
                self.sync()
        finally:
            os.close(self._handle)

    def missing(self) -> Iterator[int]:
        """Yield the parts that are not right yet, in order."""
        return (part for part, have in enumerate(self._have) if not have)

    def right(self) -> list[int]:
        """Return the parts that are right; any thread may ask."""
        return [part for part, have in enumerate(self._have) if have]

    def came_bytes(self) -> int:
        """Return how many bytes are there, right or not yet known; any thread may ask."""
        return self.done_bytes + self._begun[1]

    def begun(self, part: int) -> int:
        """Return how many bytes of a missing part are there; they may prove wrong with the rest."""
        return self._begun[1] if self._begun[0] == part else 0

    def write(self, part: int, offset: int, data: bytes) -> None:
        """Put bytes into a part, after those that it has; raise SpaceError if the disk is full."""
        position = self.table.span(part)[0] + offset
        rest = memoryview(data)
        with files.explaining_full_disk(self.path, self.table.encoded_size - position):
            while rest:
                written = os.pwrite(self._handle, rest, position)
                position, rest = position + written, rest[written:]
        self._begun = (part, offset + len(data))

    def complete(self, part: int) -> bool:
        """Count a part in if its bytes are right, else forget them; say whether they are."""
        self._begun = (part, 0)
        if not self._is_right(part):
            return False
        self._have[part] = 1
        self.done_bytes += self._size(part)
        self._unsynced += 1
        # The last parts need no sync of their own: decoding follows at once.
        late = time.monotonic() - self._synced_at >= SYNC_S
        if (late or self._unsynced >= SYNC_PARTS) and not all(self._have):
            self.sync()
        return True

    def sync(self) -> None:
        """Make what is right durable, and then the bitmap; raise SpaceError if the disk is full."""
        if self._unsynced:
            files.fsync_file(self._handle, self.path)
            with files.explaining_full_disk(self._bitmap, len(self._have)):
                files.write_atomic(self._bitmap, encode_bitmap(self._parts_sha256, self._have))
        self._unsynced = 0
        self._synced_at = time.monotonic()

    def distrust(self) -> None:
        """Have every part compared with the table again at the next start."""
        files.remove(self._bitmap)
        self._unsynced = 0

    def remove(self) -> None:
        """Delete the download; it has served."""
        self.distrust()
        files.remove(self.path)

    def _load(self) -> bytearray:
        """Return a 1 for each part that is right."""
        try:
            data = self._bitmap.read_bytes()
        except FileNotFoundError:
            data = b""
        have = decode_bitmap(data, self._parts_sha256, len(self.table.parts))
        length = self._length()
        for part, is_durable in enumerate(have):
            inside = self.table.span(part)[1] <= length
            have[part] = inside and (bool(is_durable) or self._is_right(part))
        return have

    def _is_right(self, part: int) -> bool:
        start, stop = self.table.span(part)
        return digests.of_bytes(_read(self._handle, start, stop)) == self.table.parts[part]

    def _size(self, part: int) -> int:
        start, stop = self.table.span(part)
        return stop - start

    def _length(self) -> int:
        return os.fstat(self._handle).st_size


def paths(work: Path, blob: Digest, encoding: str, base: Digest | None = None) -> tuple[Path, Path]:
    """Return where the download of a blob lies, and its bitmap: never two encodings in one file."""
    stem = f"{blob}.{encoding}" if base is None else f"{blob}.{encoding}.{base}"
    return work / f"{stem}{PART_SUFFIX}", work / f"{stem}{BITMAP_SUFFIX}"


def discard(work: Path, is_unwanted: Callable[[str], bool]) -> None:
    """Remove the downloads of the blobs of which this is true, and what is held against them."""
    for suffix in (BITMAP_SUFFIX, PART_SUFFIX, doubts.SUFFIX):
        for path in work.glob(f"*{suffix}"):
            if is_unwanted(path.name.split(".")[0]):
                files.remove(path)


def encode_bitmap(parts_sha256: Digest, have: bytearray) -> bytes:
    """Return a bitmap file: magic, digest of the table, number of parts, bits, CRC-32."""
    bits = sum(1 << part for part, is_right in enumerate(have) if is_right)
    packed = bits.to_bytes(-(-len(have) // 8), "little")
    body = _HEAD.pack(_MAGIC, bytes.fromhex(parts_sha256), len(have)) + packed
    return body + _CRC.pack(zlib.crc32(body))


def decode_bitmap(data: bytes, parts_sha256: Digest, count: int) -> bytearray:
    """Return a 1 for each part that a bitmap file holds; none if it is not whole or not of these.

    The file is the device's own, but the disk below it may have lied.
    """
    body, crc = data[: -_CRC.size], data[-_CRC.size :]
    head = _HEAD.pack(_MAGIC, bytes.fromhex(parts_sha256), count)
    packed = body[len(head) :]
    whole = (
        body.startswith(head)
        and crc == _CRC.pack(zlib.crc32(body))
        and len(packed) == -(-count // 8)
    )
    bits = int.from_bytes(packed, "little") if whole else 0
    return bytearray(bits >> part & 1 for part in range(count))


def _read(handle: int, start: int, stop: int) -> bytes:
    """Return bytes of a file, fewer only if it ends before."""
    pieces = []
    while start < stop and (piece := os.pread(handle, stop - start, start)):
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)
