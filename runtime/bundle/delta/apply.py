"""From the old file and a delta to the new file, as a stream and in bounded memory.

The old file is read in pieces (never mapped: a file that shrinks under a map kills the process).
What comes out is checked against the header's size here; whoever takes the bytes checks their
SHA-256, since a blob store does so anyway.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from runtime import digests, files
from runtime.bundle.blobs import Readable
from runtime.bundle.delta import blocks, sections
from runtime.bundle.delta.blocks import Lane
from runtime.bundle.delta.format import Header, Source, header_of, read_header
from runtime.bundle.delta.sections import Block
from runtime.bundle.delta.streams import Array
from runtime.errors import IntegrityError, InvalidError

_PIECE_BYTES: Final = 1 << 20
_NOTHING: Final = memoryview(b"")
_ROWS: Final = 4096
_SMALL_BYTES: Final = 1 << 14


@dataclass(frozen=True)
class Limits:
    """What a receiver allows a delta."""

    memory_bytes: int = 64 << 20
    size_bytes: int | None = None
    """Of the new file; None: whatever the header says."""


DEFAULT: Final = Limits()


class Decoder:
    """The new file's bytes as a readable stream. A context manager: it holds the old file open."""

    def __init__(self, delta: Readable, old: Path | None, limits: Limits = DEFAULT) -> None:
        """Read the header.

        Raises IntegrityError if this is no delta or `old` has not the size of the file that it
        builds on; InvalidError if it needs a later version, more memory, or an old file that is
        not there.
        """
        source = Source(delta)
        self.header = read_header(source)
        _require_within(self.header, limits)
        self._old = _OldFile(old, self.header)
        self._held: dict[Lane, memoryview] = {}
        """What is left of each lane's block."""
        self._pieces = self._decode(source)
        self._left = _NOTHING

    def __enter__(self) -> "Decoder":  # noqa: PYI034 - Self is newer than Python 3.10
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the old file."""
        self._old.close()

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, all if it is negative, and none only at the end.

        Raises IntegrityError if the delta is damaged or the old file has become shorter.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(_PIECE_BYTES), b""))
        # Of one piece alone: to join it to the next would keep its block while that is decoded.
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        found = bytes(self._left[:size])
        # An empty rest would keep the whole block in memory.
        self._left = self._left[size:] or _NOTHING
        return found

    def _decode(self, source: Source) -> Iterator[memoryview]:
        """Yield the new file. Small pieces are joined: there may be a hundred thousand."""
        joined = bytearray()
        for step in sections.steps(source, self.header):
            if isinstance(step, Block):
                self._held.pop(step.lane, None)
                self._held[step.lane] = self._unfold(step)
            elif step.length < _SMALL_BYTES:
                if step.lane is None:
                    joined += self._old.read(step.old_offset, step.length)
                else:
                    joined += self._take(step.lane, step.length)
                if len(joined) >= _PIECE_BYTES:
                    yield memoryview(joined)
                    joined = bytearray()
            else:
                yield memoryview(joined)
                joined = bytearray()
                if step.lane is None:
                    yield from self._old.pieces(step.old_offset, step.length)
                else:
                    yield self._take(step.lane, step.length)
        yield memoryview(joined)

    def _take(self, lane: Lane, length: int) -> memoryview:
        held = self._held[lane]
        self._held[lane] = held[length:]
        return held[:length]

    def _unfold(self, block: Block) -> memoryview:
        old = self._old.gather(block.old)
        made = blocks.decode(block.payload, block.mode, block.lane, block.count, old)
        return made.data


def _require_within(header: Header, limits: Limits) -> None:
    if header.memory_bytes > limits.memory_bytes:
        fix = f"{limits.memory_bytes} bytes are allowed: ask for another encoding"
        raise InvalidError("delta.memory", header.memory_bytes, fix)
    if limits.size_bytes is not None and header.size != limits.size_bytes:
        raise IntegrityError("delta", wanted=f"{limits.size_bytes} bytes", got=str(header.size))


class _OldFile:
    """Ranges of the old file."""

    def __init__(self, path: Path | None, header: Header) -> None:
        self._handle: int | None = None
        if header.base is None:
            return
        if path is None:
            raise InvalidError("base", None, f"this delta builds on blob {header.base.sha256}")
        try:
            self._handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise InvalidError("base", str(path), "give the old file") from error
        size = os.fstat(self._handle).st_size
        if size != header.base.size:
            self.close()
            raise IntegrityError(
                f"old file {path}", wanted=f"{header.base.size} bytes", got=f"{size}"
            )

    def close(self) -> None:
        """Close the file; again is fine."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def gather(self, ranges: Array) -> bytearray:
        """Return these ranges (rows of offset and length) one after the other."""
        data = bytearray(int(ranges[:, 1].sum()))
        left = memoryview(data)
        for first in range(0, len(ranges), _ROWS):
            for offset, length in ranges[first : first + _ROWS].tolist():
                self._fill(left[:length], offset)
                left = left[length:]
        return data

    def read(self, offset: int, length: int) -> bytearray:
        """Return a range."""
        data = bytearray(length)
        self._fill(memoryview(data), offset)
        return data

    def pieces(self, offset: int, length: int) -> Iterator[memoryview]:
        """Yield a range piece by piece."""
        end = offset + length
        for start in range(offset, end, _PIECE_BYTES):
            yield memoryview(self.read(start, min(_PIECE_BYTES, end - start)))

    def _fill(self, target: memoryview, offset: int) -> None:
        """Read a range; raise IntegrityError if the file has become shorter."""
        assert self._handle is not None, "a table without an old file has no places in it"
        while target:
            found = os.preadv(self._handle, [target], offset)
            if not found:
                raise IntegrityError("old file", wanted=f"more than {offset} bytes", got="fewer")
            target, offset = target[found:], offset + found


def apply(old: Path | None, delta: Path, sink: IO[bytes], *, limits: Limits = DEFAULT) -> Header:
    """Write what a delta makes of `old` to `sink`; return the delta's header.

    Raises IntegrityError if the delta is damaged or `old` is not the file that it builds on: its
    size is looked at first, its digest only once the result is wrong. What `sink` has got by then
    is worth nothing: see apply_file. InvalidError as for Decoder.
    """
    with delta.open("rb") as stream, Decoder(stream, old, limits) as decoder:
        header, sha256 = decoder.header, hashlib.sha256()
        while piece := decoder.read(_PIECE_BYTES):
            sha256.update(piece)
            sink.write(piece)
    if sha256.hexdigest() != header.sha256:
        _blame_old(old, header)
        raise IntegrityError("new file", wanted=header.sha256, got=sha256.hexdigest())
    return header


def apply_file(old: Path | None, delta: Path, new: Path, *, limits: Limits = DEFAULT) -> Header:
    """Durably write what a delta makes of `old` to `new`; return the delta's header.

    Raises what `apply` does, and leaves nothing then; SpaceError if the disk is full.
    """
    needed = header_of(delta).size
    with files.explaining_full_disk(new, needed), files.replacing(new) as target:
        return apply(old, delta, target, limits=limits)


def _blame_old(old: Path | None, header: Header) -> None:
    """Raise IntegrityError if it was the old file that is another one."""
    if old is not None and header.base is not None:
        got = digests.of_file(old)
        if got != header.base.sha256:
            raise IntegrityError(f"old file {old}", wanted=header.base.sha256, got=got)
