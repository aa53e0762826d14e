"""From a plan and its two files to a delta file. See runtime.bundle.delta.format for its layout."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from runtime import digests, files
from runtime.bundle.delta import blocks, table
from runtime.bundle.delta import format as layout
from runtime.bundle.delta.blocks import Lane, Prefix
from runtime.bundle.delta.format import Base, Header, varint
from runtime.bundle.delta.plan import Change, Copy, ElementType, Segment
from runtime.bundle.delta.sections import Meter
from runtime.bundle.delta.streams import Array
from runtime.digests import Digest
from runtime.errors import InvalidError

BLOCK_BYTES: Final = 1 << 20
"""Of elements: fits a core's cache, and is long enough for its tables of codes not to matter."""
BLOCKS_OF_BYTES: Final = (layout.MAX_BLOCK_BYTES, 2 << 20, 1 << 18)
"""The same for what is no tensor, which gains by long blocks; the longest that memory allows."""
MEMORY_BYTES: Final = 60 << 20
_LARGE: Final = 4
"""A segment of a block's size divided by this has blocks of its own."""


@dataclass(frozen=True)
class _Piece:
    """Bytes of one segment: where they begin in the new file and in the old one."""

    new: int
    old: int
    length: int


@dataclass(frozen=True)
class _Block:
    lane: Lane
    pieces: tuple[_Piece, ...]


def write(
    plan: Iterable[Segment],
    new: Path,
    target: Path,
    *,
    encoding: str,
    old: Path | None = None,
    new_sha256: Digest | None = None,
    old_sha256: Digest | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Header:
    """Durably write the delta that makes `new` of `old` to `target`; return its header.

    Digests that the caller knows are not worked out again. Blocks are made smaller until decoding
    needs at most `memory_bytes`, or as little as it can: the header says what it came to. The same
    arguments give the same bytes as long as the libraries are the same. Raises InvalidError if the
    plan does not make `new`, SpaceError if the disk is full.
    """
    base = None
    if old is not None:
        base = Base(old.stat().st_size, old_sha256 or digests.of_file(old))
    size = new.stat().st_size
    header = Header(encoding, base, size, new_sha256 or digests.of_file(new), 0)
    segments = list(plan)
    _require_whole(segments, header)
    with files.explaining_full_disk(target, size), files.replacing(target) as file:
        for block_bytes in BLOCKS_OF_BYTES:
            file.seek(0)
            file.truncate()
            file.write(layout.encode_header(header))
            writer = _Writer(file, _mapped(new), _mapped(old), block_bytes)
            needed = writer.write(segments).bytes
            if needed <= memory_bytes:
                break
        header = replace(header, memory_bytes=-(-needed // 1024) * 1024)
        file.seek(0)
        file.write(layout.encode_header(header))
    return header


def _require_whole(segments: Sequence[Segment], header: Header) -> None:
    """Raise InvalidError unless these segments make the new file of ranges of the old one."""
    old_size = header.base.size if header.base else 0
    for segment in segments:
        width = 1 if isinstance(segment, Copy) else segment.type.width
        if segment.length <= 0 or segment.length % width:
            raise InvalidError("plan", segment, f"lengths are multiples of {width}, not 0")
        if isinstance(segment, Copy | Change):
            end = segment.old_offset + segment.length
            if segment.old_offset < 0 or end > old_size:
                raise InvalidError("plan", segment, f"the old file has {old_size} bytes")
    total = sum(segment.length for segment in segments)
    if total != header.size:
        raise InvalidError("plan", total, f"the new file has {header.size} bytes")
    most = layout.SEGMENTS_FREE + header.size // layout.SEGMENT_BYTES
    if len(segments) > most:
        raise InvalidError("plan", len(segments), f"join segments: at most {most} for this file")


def _mapped(path: Path | None) -> Array:
    """Return a file's bytes; they are read when they are looked at."""
    if path is None or path.stat().st_size == 0:
        return np.zeros(0, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, "r"))


class _Writer:
    """Writes sections one after the other."""

    def __init__(self, file: BinaryIO, new: Array, old: Array, block_bytes: int) -> None:
        self._file, self._new, self._old = file, new, old
        self._block_bytes = block_bytes
        self._meter = Meter()

    def write(self, segments: Sequence[Segment]) -> Meter:
        """Write all segments; return what decoding them needs."""
        start = 0
        for first in range(0, len(segments), layout.SECTION_SEGMENTS):
            section = segments[first : first + layout.SECTION_SEGMENTS]
            self._write_section(section, start)
            start += sum(segment.length for segment in section)
        return self._meter

    def _write_section(self, segments: Sequence[Segment], start: int) -> None:
        self._meter.add_table(len(segments))
        columns = table.encode(segments, start)
        self._file.write(varint(len(segments)) + varint(len(columns)) + columns)
        # A decoder needs a block when it comes to the block's first byte.
        for block in sorted(
            _cut(segments, start, self._block_bytes), key=lambda block: block.pieces[0].new
        ):
            self._write_block(block)

    def _write_block(self, block: _Block) -> None:
        lane = block.lane
        new = _gather(self._new, ((piece.new, piece.length) for piece in block.pieces))
        old, prefix = None, None
        if lane.change:
            old = _gather(self._old, ((piece.old, piece.length) for piece in block.pieces))
        if lane.type is ElementType.BYTES:
            prefix = self._prefix(block, len(new))
        body = blocks.encode(new, old, lane.type, prefix)
        used = len(prefix.data) if prefix is not None and body[0] == blocks.PREFIX else 0
        count = len(new) // lane.type.width
        self._meter.add_block(lane, count, payload=len(body), prefix=used)
        self._file.write(varint(len(body)) + varint(count) + body)

    def _prefix(self, block: _Block, size: int) -> Prefix | None:
        """Return the part of the old file that is most like a block: round where it would lie."""
        if len(self._old) == 0:
            return None
        most = self._block_bytes + self._block_bytes // 2
        length = min(len(self._old), most, blocks.prefix_bytes(size))
        pieces = block.pieces
        middle = (pieces[0].old + pieces[-1].old + pieces[-1].length) // 2
        offset = max(0, min(middle - length // 2, len(self._old) - length))
        return Prefix(offset, self._old[offset : offset + length])


def _gather(data: Array, ranges: Iterable[tuple[int, int]]) -> Array:
    parts = [data[start : start + length] for start, length in ranges]
    # One part is copied too: numbers that begin at odd addresses are slow, or not allowed.
    return np.concatenate(parts)


def _cut(segments: Sequence[Segment], start: int, block_bytes: int) -> list[_Block]:
    """Return the blocks of a section; those of bytes are at most so long."""
    lanes: dict[Lane, list[_Piece]] = {}
    lead = start
    for segment in segments:
        if isinstance(segment, Copy | Change):
            lead = segment.old_offset
        if not isinstance(segment, Copy):
            lane = Lane(isinstance(segment, Change), segment.type)
            lanes.setdefault(lane, []).append(_Piece(start, lead, segment.length))
        lead += segment.length
        start += segment.length
    return list(
        itertools.chain.from_iterable(
            _cut_lane(lane, found, block_bytes if lane.type is ElementType.BYTES else BLOCK_BYTES)
            for lane, found in lanes.items()
        )
    )


def _cut_lane(lane: Lane, pieces: Iterable[_Piece], limit: int) -> Iterator[_Block]:
    """Join small pieces and split large ones, so that a block is of one tensor if it can be."""
    held: list[_Piece] = []
    held_bytes = 0
    for piece in pieces:
        large = piece.length >= limit // _LARGE and lane.type is not ElementType.BYTES
        if held and (large or held_bytes + piece.length > limit):
            yield _Block(lane, tuple(held))
            held, held_bytes = [], 0
        if large or piece.length > limit:
            for part in _split(piece, limit, lane.type.width):
                yield _Block(lane, (part,))
        else:
            held.append(piece)
            held_bytes += piece.length
    if held:
        yield _Block(lane, tuple(held))


def _split(piece: _Piece, limit: int, width: int) -> Iterator[_Piece]:
    """Yield a piece in parts of like size, none above the limit."""
    parts = -(-piece.length // limit)
    elements = piece.length // width
    ends = [elements * part // parts * width for part in range(parts + 1)]
    for begin, end in itertools.pairwise(ends):
        yield _Piece(piece.new + begin, piece.old + begin, end - begin)
