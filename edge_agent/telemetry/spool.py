"""Where workers leave records, so that `kill -9` of anyone at any byte loses none of them.

A spool is a directory of append-only segments. Each writer owns the segment it writes, and holds a
lock on it as long as it lives; the kernel gives the lock back however the writer dies. A frame is
written by one write(). A reader takes frames from all segments, remembers how far it came
elsewhere (the outbox keeps the cursors, in the transaction that keeps the records), and removes
a segment when its writer is gone and all of it was taken. Frames: `edge_agent.telemetry.segments`.

    {n}-{random}.log       a segment; the random part keeps a stale cursor from ever matching
    .{n}-{random}.new      one being made: not visible before it is locked
    {n}-{random}.bad       one whose bytes were damaged, kept for a person to look at

What is in the page cache survives a killed process, not a power cut: what a power cut takes, the
sources give again, since their positions lie in the same frames. Not thread-safe: `SpoolReader`.
"""

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path

from edge_agent.telemetry import segments
from runtime import files
from runtime.errors import SpaceError

log = logging.getLogger(__name__)

SEGMENT_BYTES = 1 << 20
"""A writer begins its next segment when the one before has reached this."""
CAP_BYTES = 64 << 20
"""What a spool may hold unless its writer is told otherwise."""
LEAVE_BYTES = 8 << 20
"""What writers leave free on the disk: more than the outbox does, which must empty the spool."""

_ATTEMPTS = 5


class SpoolWriter:
    """Appends frames to a segment of its own. Any thread may append."""

    def __init__(
        self, directory: Path, *, cap_bytes: int = CAP_BYTES, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._directory = files.make_directory(directory)
        self._cap_bytes = cap_bytes
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._handle: int | None = None
        self._size = 0
        self._number = 0
        self._budget = 0
        """Bytes that may be written before the directory must be measured again."""
        segments.sweep(self._directory)

    def append(self, payload: bytes) -> None:
        """Return once the frame would survive the death of this process.

        Raises SpaceError if it could not be written (disk full, cap reached, any other refusal of
        the file system; the cause tells), in which case nothing of it stays, and InvalidError if
        the payload is empty or larger than MAX_PAYLOAD_BYTES.
        """
        frame = segments.encode(payload)
        with self._lock:
            try:
                self._require_room(len(frame))
                self._write(self._segment(), frame)
            except OSError as error:
                raise self._space_error(len(frame)) from error
            self._size += len(frame)
            self._budget -= len(frame)

    def sync(self) -> None:
        """Make what was appended survive a power cut too."""
        with self._lock:
            if self._handle is None:
                return
            handle = os.dup(self._handle)
        # Without the lock: who appends, in a worker's event loop perhaps, must not wait for a disk.
        try:
            os.fsync(handle)
            files.fsync_directory(self._directory)
        finally:
            os.close(handle)

    def close(self) -> None:
        """Give the segment up; the reader may then remove it. A later append begins another."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _require_room(self, needed_bytes: int) -> None:
        if needed_bytes <= self._budget:
            return
        # Other writers share the directory, so the measure is only trusted for so many bytes.
        left = min(
            self._cap_bytes - segments.held_bytes(self._directory),
            files.free_bytes(self._directory) - LEAVE_BYTES,
        )
        if left < needed_bytes:
            free = max(0, left)
            raise SpaceError(str(self._directory), needed_bytes=needed_bytes, free_bytes=free)
        self._budget = min(left, max(self._segment_bytes, needed_bytes))

    def _segment(self) -> int:
        if self._handle is not None and self._size >= self._segment_bytes:
            self._close()
        if self._handle is None:
            self._handle, self._size = self._open(), 0
        return self._handle

    def _open(self) -> int:
        """Make a segment that is locked before any reader can see it."""
        for _ in range(_ATTEMPTS):
            self._number = 1 + max(
                [self._number, *map(segments.number, segments.names(self._directory))]
            )
            stem = f"{self._number:016d}-{secrets.token_hex(4)}"
            new = self._directory / f".{stem}.new"
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                new.rename(self._directory / f"{stem}.log")
            except (BlockingIOError, FileNotFoundError):
                os.close(handle)  # another writer's sweep came between: once more
            except OSError:
                os.close(handle)
                new.unlink(missing_ok=True)
                raise
            else:
                return handle
        raise OSError(errno.EBUSY, "no segment could be made", str(self._directory))

    def _write(self, handle: int, frame: bytes) -> None:
        try:
            if os.write(handle, frame) == len(frame):
                return
            trouble = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            trouble = error
        try:
            os.ftruncate(handle, self._size)
        except OSError:
            # What was written of the frame stays as the torn tail of a segment without a writer.
            self._close()
        raise trouble

    def _space_error(self, needed_bytes: int) -> SpaceError:
        free = 0
        with contextlib.suppress(OSError):
            free = files.free_bytes(self._directory)
        return SpaceError(str(self._directory), needed_bytes=needed_bytes, free_bytes=free)


class SpoolReader:
    """Takes frames out of a spool's segments. One reader, one thread.

    `torn` counts frames that a dying writer left unfinished (their append never returned), `bad`
    segments that were damaged and set aside.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.torn = 0
        self.bad = 0

    def read(self, cursors: Mapping[str, int], limit: int) -> list[segments.Frame]:
        """Return the next frames behind the cursors, in order; none when there are none.

        They come from one segment, the first that has any, and are at most `limit` and 1 MiB. A
        cursor is the `end` of the last frame taken from that segment; none means its beginning.
        """
        for name in segments.names(self._directory):
            with segments.opened(self._directory / name) as handle:
                if handle is None:
                    continue
                found = segments.scan(handle, name, cursors.get(name, 0), limit).frames
                if found:
                    return found
        return []

    def sync(self) -> None:
        """Make all that lies here survive a power cut too."""
        for name in segments.names(self._directory):
            with segments.opened(self._directory / name) as handle:
                if handle is not None:
                    os.fsync(handle)
        files.fsync_directory(self._directory)

    def finished(self, cursors: Mapping[str, int]) -> list[str]:
        """Return the segments without a writer that hold nothing more behind the cursors."""
        return [
            name
            for name in segments.names(self._directory)
            if self._rest(name, cursors.get(name, 0))
            not in {segments.Rest.FRAMES, segments.Rest.WRITTEN}
        ]

    def remove(self, segment: str, end: int) -> None:
        """Remove a finished segment whose cursor is `end`; a damaged one is set aside instead."""
        rest = self._rest(segment, end)
        path = self._directory / segment
        if rest is segments.Rest.DAMAGED:
            self.bad += 1
            log.error("segment damaged, set aside", extra={"segment": str(path), "offset": end})
            path.rename(path.with_suffix(".bad"))
            segments.forget_bad(self._directory)
            return
        self.torn += rest is segments.Rest.TORN
        path.unlink(missing_ok=True)

    def _rest(self, name: str, start: int) -> segments.Rest:
        with segments.opened(self._directory / name) as handle:
            if handle is None:
                return segments.Rest.NOTHING
            try:
                # Asked before the size is: who has no writer does not grow any more.
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return segments.Rest.WRITTEN
            scan = segments.scan(handle, name, start, limit=1)
            return segments.Rest.FRAMES if scan.frames else scan.rest
