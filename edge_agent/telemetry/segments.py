"""One spool segment as bytes and as a file: frames, names, and what lies behind a cursor.

A frame is `length (4 bytes, big-endian), CRC-32 of length and payload (4 bytes), payload`. The
length is under the CRC and never 0, so that the zeros a power cut may leave are no frame.
"""

import contextlib
import enum
import fcntl
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from runtime.errors import InvalidError

MAX_PAYLOAD_BYTES = 256 * 1024
"""Of one frame; the largest record still fits into one batch."""
MAX_BAD_SEGMENTS = 4
"""How many damaged segments are kept; older ones make room."""

_HEADER = struct.Struct(">II")
_READ_BYTES = 1 << 20
_SEGMENT = re.compile(r"(\d{16})-[0-9a-f]{8}\.log")
_NEW = re.compile(r"\.\d{16}-[0-9a-f]{8}\.new")


class Frame(NamedTuple):
    """One payload and where it ended: the cursor that goes with it."""

    segment: str
    end: int
    payload: bytes


class Rest(enum.Enum):
    """What lies behind a cursor."""

    WRITTEN = "its writer lives"
    FRAMES = "whole frames"
    NOTHING = "nothing"
    TORN = "an unfinished frame"
    DAMAGED = "bytes that are no frame"


class Scan(NamedTuple):
    """What was read."""

    frames: list[Frame]
    rest: Rest
    """What ended the scan; says nothing when the limit did."""


def encode(payload: bytes) -> bytes:
    """Return the frame of a payload; raise InvalidError if it is empty or too large."""
    if not 0 < len(payload) <= MAX_PAYLOAD_BYTES:
        raise InvalidError("payload", f"{len(payload)} bytes", f"give 1 to {MAX_PAYLOAD_BYTES}")
    length = len(payload).to_bytes(4, "big")
    crc = zlib.crc32(payload, zlib.crc32(length))
    return b"".join((length, crc.to_bytes(4, "big"), payload))


def scan(handle: int, name: str, start: int, limit: int) -> Scan:
    """Return the whole frames behind `start`, at most `limit`, and what ended them."""
    data = os.pread(handle, _READ_BYTES, start)
    frames: list[Frame] = []
    at = 0
    while len(frames) < limit:
        body = at + _HEADER.size
        if body > len(data):
            return Scan(frames, Rest.TORN if at < len(data) else Rest.NOTHING)
        length, crc = _HEADER.unpack_from(data, at)
        if not 0 < length <= MAX_PAYLOAD_BYTES:
            return Scan(frames, Rest.DAMAGED)
        if body + length > len(data):
            return Scan(frames, Rest.TORN)
        payload = data[body : body + length]
        if zlib.crc32(payload, zlib.crc32(data[at : at + 4])) != crc:
            return Scan(frames, Rest.DAMAGED)
        at = body + length
        frames.append(Frame(name, start + at, payload))
    return Scan(frames, Rest.NOTHING)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int | None]:
    """Open a segment for reading; None if it is not there (any more)."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def names(directory: Path) -> list[str]:
    """Return the segments of a spool in the order in which they are read; skip other files."""
    try:
        return sorted(path.name for path in directory.iterdir() if _SEGMENT.fullmatch(path.name))
    except FileNotFoundError:
        return []


def number(segment: str) -> int:
    """Return a segment's number."""
    return int(segment[:16])


def held_bytes(directory: Path) -> int:
    """Return the size of all files of a spool, also the damaged and the unknown."""
    held = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                held += entry.stat(follow_symlinks=False).st_size
    return held


def sweep(directory: Path) -> None:
    """Remove what writers left that died while they made a segment: empty files."""
    for path in directory.iterdir():
        if not _NEW.fullmatch(path.name):
            continue
        with opened(path) as handle, contextlib.suppress(BlockingIOError, FileNotFoundError):
            if handle is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def forget_bad(directory: Path) -> None:
    """Keep only the newest damaged segments."""
    for path in sorted(directory.glob("*.bad"))[:-MAX_BAD_SEGMENTS]:
        path.unlink(missing_ok=True)
