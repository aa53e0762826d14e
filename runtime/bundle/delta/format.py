"""How a delta file is laid out: header, limits, and readers that trust nothing. See docs/specs.

    header   magic, version, encoding, the old file's and the new file's size and SHA-256, memory
    section  a table of at most SECTION_SEGMENTS segments, then the blocks that they need, in the
             order in which a decoder that walks the table needs them
    …        until the new file is whole; nothing may follow

Nothing here knows about tensors: runtime.bundle.delta.blocks does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.bundle import encodings
from runtime.bundle.blobs import Readable
from runtime.bundle.delta.plan import ElementType
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

MAGIC: Final = b"PHDL"
VERSION: Final = 1

MAX_FILE_BYTES: Final = 1 << 46
"""So that sums of lengths stay within 64 bits."""
SECTION_SEGMENTS: Final = 1 << 16
SEGMENTS_FREE: Final = 4096
SEGMENT_BYTES: Final = 4
"""A file has at most SEGMENTS_FREE segments and one more for each of so many of its bytes."""
MAX_ELEMENTS: Final = 1 << 20
MAX_BLOCK_BYTES: Final = 8 << 20
MAX_PREFIX_BYTES: Final = 12 << 20
SLACK_BYTES: Final = 64
"""A block may be this much longer than what it unfolds to, a table than its segments' share."""
TABLE_SEGMENT_BYTES: Final = 32
"""Each segment's share of a table."""

KINDS: Final = {encodings.PLANES: 1, encodings.PATCH: 2, encodings.TENSOR_DELTA: 3}
"""Encodings that are delta files, and their numbers in the header."""
TYPES: Final = (
    ElementType.BYTES, ElementType.FP16, ElementType.BF16, ElementType.FP32, ElementType.FP64,
    ElementType.INT8, ElementType.INT16, ElementType.INT32, ElementType.INT64,
)  # fmt: skip
"""Element types by their number in a table."""

_HAS_BASE: Final = 0x80
_MEMORY_UNIT: Final = 1024
_DIGEST_BYTES: Final = 32
_VARINT_BYTES: Final = 9


def damaged(wanted: str, got: object) -> IntegrityError:
    """Return the error for a delta that is not what a writer of ours makes."""
    return IntegrityError("delta", wanted=wanted, got=str(got))


@dataclass(frozen=True)
class Base:
    """The old file that a delta builds on."""

    size: int
    sha256: Digest


@dataclass(frozen=True)
class Header:
    """What a receiver learns before it decodes anything."""

    encoding: str
    base: Base | None
    size: int
    """Bytes of the new file."""
    sha256: Digest
    memory_bytes: int
    """What a decoder needs beside the interpreter and the files."""


def encode_header(header: Header) -> bytes:
    """Return a header's bytes. Their number does not depend on `memory_bytes`."""
    out = bytearray(MAGIC)
    out += bytes((VERSION, KINDS[header.encoding] | (_HAS_BASE if header.base else 0)))
    if header.base is not None:
        out += varint(header.base.size) + bytes.fromhex(header.base.sha256)
    out += varint(header.size) + bytes.fromhex(header.sha256)
    units = -(-header.memory_bytes // _MEMORY_UNIT)
    return bytes(out) + units.to_bytes(4, "little")


class Source:
    """A delta as it comes in: read in order, once; it may end early."""

    def __init__(self, stream: Readable) -> None:
        """Read this stream from where it stands."""
        self._stream = stream
        self.position = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes; raise IntegrityError if there are fewer."""
        found = self._stream.read(size)
        while len(found) < size:
            more = self._stream.read(size - len(found))
            if not more:
                raise damaged("more bytes", f"the end after {self.position + len(found)}")
            found += more
        self.position += size
        return found

    def varint(self) -> int:
        """Return the next number; raise IntegrityError if there is none."""
        value = 0
        for shift in range(0, 7 * _VARINT_BYTES, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the bit that says "more follows"
                return value
        raise damaged("a number below 2^63", "a longer one")

    def finish(self) -> None:
        """Raise IntegrityError unless everything has been read."""
        if self._stream.read(1):
            raise damaged(f"the end after {self.position} bytes", "more")


def read_header(source: Source) -> Header:
    """Return the header at a delta's start.

    Raises IntegrityError if this is no delta, InvalidError if it is one of a later version.
    """
    magic = source.take(len(MAGIC))
    if magic != MAGIC:
        raise damaged("a Packhorse delta", f"a file that starts with {magic!r}")
    version, kind = source.take(2)
    if version != VERSION:
        fix = f"this version reads format {VERSION}: upgrade"
        raise InvalidError("delta.version", version, fix)
    names = {code: name for name, code in KINDS.items()}
    encoding = names.get(kind & ~_HAS_BASE)
    if encoding is None:
        raise damaged("a known encoding", f"number {kind & ~_HAS_BASE}")
    base = Base(_size(source), _digest(source)) if kind & _HAS_BASE else None
    size, sha256 = _size(source), _digest(source)
    memory = int.from_bytes(source.take(4), "little") * _MEMORY_UNIT
    return Header(encoding, base, size, sha256, memory)


def header_of(delta: Path) -> Header:
    """Return a delta file's header; raise what read_header does."""
    with delta.open("rb") as stream:
        return read_header(Source(stream))


def _size(source: Source) -> int:
    size = source.varint()
    if size > MAX_FILE_BYTES:
        raise damaged(f"a file of at most {MAX_FILE_BYTES} bytes", size)
    return size


def _digest(source: Source) -> Digest:
    return Digest(source.take(_DIGEST_BYTES).hex())


class Cursor:
    """Bytes in memory, read in order. Every method raises IntegrityError at their end."""

    def __init__(self, data: bytes) -> None:
        """Start at the first byte."""
        self._data = memoryview(data)
        self._at = 0

    def take(self, size: int) -> memoryview:
        """Return the next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise damaged(f"{size} more bytes", len(self._data) - self._at)
        found = self._data[self._at : end]
        self._at = end
        return found

    def rest(self) -> memoryview:
        """Return all that is left."""
        return self.take(len(self._data) - self._at)

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def varint(self) -> int:
        """Return the next number, below 2^63."""
        value = 0
        for shift in range(0, 7 * _VARINT_BYTES, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the bit that says "more follows"
                return value
        raise damaged("a number below 2^63", "a longer one")

    def finish(self) -> None:
        """Raise IntegrityError unless everything has been read."""
        if self._at != len(self._data):
            raise damaged("the end", f"{len(self._data) - self._at} more bytes")


def varint(value: int) -> bytes:
    """Return a number, 0 to 2^63 - 1, as 7 bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - 7 bits
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> int:
    """Return a signed number as an unsigned one: 0, -1, 1, -2, … as 0, 1, 2, 3, …."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    """Undo zigzag."""
    return value >> 1 if value & 1 == 0 else -((value + 1) >> 1)
