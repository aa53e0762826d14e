"""A delta's sections, read in order: what a decoder is to do next, already checked.

This is where nothing is believed: tables, counts, sizes and memory are held against the header and
the limits of runtime.bundle.delta.format before anything is unfolded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from runtime.bundle.delta import blocks, table
from runtime.bundle.delta.blocks import Lane
from runtime.bundle.delta.format import (
    MAX_BLOCK_BYTES,
    MAX_ELEMENTS,
    SECTION_SEGMENTS,
    SEGMENT_BYTES,
    SEGMENTS_FREE,
    SLACK_BYTES,
    TABLE_SEGMENT_BYTES,
    TYPES,
    Cursor,
    Header,
    Source,
    damaged,
)
from runtime.bundle.delta.plan import ElementType
from runtime.bundle.delta.streams import Array
from runtime.bundle.delta.table import CHANGE, COPY, Table

_SEGMENT_MEMORY: Final = 320
"""Bytes that a decoder keeps for each segment of a section."""
_FIXED_MEMORY: Final = 8 << 20
"""What it keeps in any case: pieces on their way to the disk, and what the libraries hold."""
_ROWS: Final = 4096


@dataclass(frozen=True)
class Block:
    """The next elements of a lane, still coded."""

    lane: Lane
    count: int
    mode: int
    payload: Cursor
    payload_bytes: int
    old: Array
    """Ranges of the old file that decoding needs, in order: rows of offset and length."""


class Piece(NamedTuple):
    """The next `length` bytes of the new file: a lane's next ones, or the old file's."""

    lane: Lane | None
    old_offset: int
    length: int


Step = Block | Piece


@dataclass
class Meter:
    """Adds up what decoding needs. Writer and reader count alike."""

    lanes: dict[Lane, int] = field(default_factory=dict)
    working: int = 0
    segments: int = 0

    def add_block(self, lane: Lane, count: int, *, payload: int, prefix: int) -> None:
        """Count a block of `count` elements and `payload` coded bytes."""
        self.lanes[lane] = max(self.lanes.get(lane, 0), count * lane.type.width)
        need = blocks.working_bytes(lane, count, payload=payload, prefix=prefix)
        self.working = max(self.working, need)

    def add_table(self, count: int) -> None:
        """Count a section of so many segments."""
        self.segments = max(self.segments, count)

    @property
    def bytes(self) -> int:
        """All of it together."""
        held = sum(self.lanes.values())
        return _FIXED_MEMORY + held + self.working + self.segments * _SEGMENT_MEMORY


def steps(source: Source, header: Header) -> Iterator[Step]:
    """Yield what makes the new file, in its order; every Piece follows the Block that it needs.

    Raises IntegrityError at the first thing that no writer of ours makes, at the end of the stream
    before the end of the file, and at anything that follows.
    """
    meter, start, segments = Meter(), 0, 0
    while start < header.size:
        count = source.varint()
        segments += count
        if not 0 < count <= SECTION_SEGMENTS:
            raise damaged(f"1 to {SECTION_SEGMENTS} segments", count)
        if segments > SEGMENTS_FREE + header.size // SEGMENT_BYTES:
            raise damaged(f"fewer segments in {header.size} bytes", segments)
        meter.add_table(count)
        section = _read_table(source, header, count, start)
        yield from _Section(source, section, header, meter).steps()
        start += int(section.lengths.sum())
    source.finish()


def _read_table(source: Source, header: Header, count: int, start: int) -> Table:
    length = source.varint()
    if length > TABLE_SEGMENT_BYTES * count + SLACK_BYTES:
        raise damaged(f"a table of {count} segments", f"{length} bytes")
    old_size = header.base.size if header.base else 0
    cursor = Cursor(source.take(length))
    return table.decode(cursor, count, start=start, size=header.size, old_size=old_size)


class _Section:
    """One table being walked."""

    def __init__(self, source: Source, section: Table, header: Header, meter: Meter) -> None:
        self._source, self._table, self._meter = source, section, meter
        self._limit = header.memory_bytes
        self._old_size = header.base.size if header.base else 0
        codes = section.types.astype(np.int64) * 4 + section.kinds
        coded = np.flatnonzero(section.kinds != COPY)
        self._lanes = {
            int(code): _LaneReader(int(code), section, coded[codes[coded] == code])
            for code in np.unique(codes[coded])
        }
        self._codes = codes

    def steps(self) -> Iterator[Step]:
        """Yield this section's steps."""
        for first in range(0, len(self._codes), _ROWS):
            rows = slice(first, first + _ROWS)
            columns = (self._codes[rows], self._table.lengths[rows], self._table.olds[rows])
            for code, length, old in zip(*(column.tolist() for column in columns), strict=True):
                if code == COPY:
                    yield Piece(None, old, length)
                else:
                    yield from self._take(self._lanes[code], length)

    def _take(self, reader: "_LaneReader", length: int) -> Iterator[Step]:
        while length:
            if reader.held == 0:
                yield self._read_block(reader)
            part = min(length, reader.held)
            reader.held -= part
            length -= part
            yield Piece(reader.lane, 0, part)

    def _read_block(self, reader: "_LaneReader") -> Block:
        size, count = self._source.varint(), self._source.varint()
        lane = reader.lane
        held = count * lane.type.width
        most = MAX_BLOCK_BYTES if lane.type is ElementType.BYTES else MAX_ELEMENTS
        if not 0 < count <= most or held > min(reader.left, MAX_BLOCK_BYTES):
            raise damaged(f"a block of at most {reader.left} bytes", held)
        if size > held + SLACK_BYTES:
            raise damaged(f"at most {held + SLACK_BYTES} coded bytes", size)
        self._require_memory(lane, count, payload=size, prefix=0)
        payload = Cursor(self._source.take(size))
        mode, (offset, length) = blocks.read_prefix(payload, lane)
        self._require_memory(lane, count, payload=size, prefix=length)
        if length > self._old_size - offset:
            raise damaged(f"a prefix within {self._old_size} bytes", f"{offset} + {length}")
        changed = reader.advance(held)
        old = np.array([(offset, length)]) if length else changed
        return Block(lane, count, mode, payload, size, old)

    def _require_memory(self, lane: Lane, count: int, *, payload: int, prefix: int) -> None:
        self._meter.add_block(lane, count, payload=payload, prefix=prefix)
        if self._meter.bytes > self._limit:
            raise damaged(f"what fits {self._limit} bytes of memory", self._meter.bytes)


class _LaneReader:
    """Where one lane stands in its segments."""

    def __init__(self, code: int, section: Table, rows: Array) -> None:
        self.lane = Lane(code & 3 == CHANGE, TYPES[code >> 2])
        self.held = 0
        """Bytes of the current block that are not taken yet."""
        self._lengths, self._olds = section.lengths[rows], section.olds[rows]
        self._ends = np.cumsum(self._lengths)
        self.left = int(self._ends[-1])
        self._at = 0

    def advance(self, size: int) -> Array:
        """Begin a block of `size` bytes; return where the old file has what they changed from."""
        begin, end = self._at, self._at + size
        self._at, self.held = end, size
        self.left -= size
        if not self.lane.change:
            return np.zeros((0, 2), np.int64)
        first, last = np.searchsorted(self._ends, (begin, end - 1), "right").tolist()
        rows = slice(first, last + 1)
        starts = self._ends[rows] - self._lengths[rows]
        lows = np.maximum(begin - starts, 0)
        highs = np.minimum(end - starts, self._lengths[rows])
        return np.stack((self._olds[rows] + lows, highs - lows), axis=1)
