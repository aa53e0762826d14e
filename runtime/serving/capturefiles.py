"""A server's records, in files of a directory that somebody collects.

    DIRECTORY/{epoch}-00000001.batches    whole: collect it, then remove it
    DIRECTORY/{epoch}-00000002.open       being written, and locked as long as its writer lives

A file is batches as devices send them (runtime.batches), each after its length in four bytes, big
endian. It becomes whole when it is large or old enough, or its writer ends; what a dead writer left
is made whole by the next one, up to the last whole batch. A prediction waits for nothing: records
that come faster than they are written, or find no room, are counted as dropped.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

from runtime import batches, files
from runtime.batches import Record
from runtime.clock import Clock, SystemClock
from runtime.errors import InvalidError, SpaceError
from runtime.messages import Capture
from runtime.serving import capture
from runtime.serving.capture import Maker, Sampler
from runtime.serving.served import Prediction
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

WHOLE, OPEN = ".batches", ".open"
LENGTH_BYTES = 4
CAP_BYTES = 256 << 20
FILE_BYTES = 8 << 20
FILE_AGE_S = 30.0
WAITING_RECORDS = 10_000
BATCH_RECORDS = 500
WRITE_S = 0.5
"""Records are written at most this late."""
LEAVE_BYTES = 64 << 20
"""Of the disk, for everybody else."""


class CaptureFiles:
    """Keeps predictions in files. `saw` may be called from any thread, and is quick."""

    def __init__(
        self,
        directory: Path,
        rules: Capture,
        *,
        device: str = "server",
        cap_bytes: int = CAP_BYTES,
        file_bytes: int = FILE_BYTES,
        file_age_s: float = FILE_AGE_S,
        clock: Clock | None = None,
    ) -> None:
        """Write into a directory, as this device; raise OSError if that cannot be."""
        self._directory = files.make_directory(directory)
        self._rules, self._sampler = rules, Sampler(rules.inputs)
        self._device, self._clock = DeviceId(device), clock or SystemClock()
        self._cap_bytes, self._file_bytes, self._age_s = cap_bytes, file_bytes, file_age_s
        self._epoch, self._sequence, self._number = secrets.token_hex(8), 0, 0
        self._records: deque[Record] = deque()
        self._handle: int | None = None
        self._path = self._directory
        self._size, self._opened = 0, 0.0
        self._closing = threading.Event()
        self._trouble = ""
        self._counting = threading.Lock()
        self.dropped = 0
        """Records that found no room."""
        self.written = 0
        _sweep(self._directory)
        self._thread = threading.Thread(target=self._keep, name="capture", daemon=True)
        self._thread.start()

    def saw(self, prediction: Prediction) -> None:
        """Keep a prediction, or count it as dropped."""
        if len(self._records) >= WAITING_RECORDS:
            self._drop(1)
            return
        version = int(prediction.version) if prediction.version.isdecimal() else 0
        maker = Maker(prediction.model, prediction.bundle, prediction.model, version)
        self._records.append(capture.record_of(prediction, maker, self._rules, self._sampler))

    def close(self) -> None:
        """Write what waits, and make the last file whole."""
        self._closing.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._closing.wait(WRITE_S):
            self._write_all()
        self._write_all()
        self._finish_file()

    def _write_all(self) -> None:
        while self._records:
            count = min(len(self._records), BATCH_RECORDS)
            self._write([self._records.popleft() for _ in range(count)])
        if self._handle is not None and time.monotonic() - self._opened >= self._age_s:
            self._finish_file()

    def _write(self, records: list[Record]) -> None:
        """Write records as one batch, or in halves if they are too large for that."""
        try:
            body = batches.encode_records(records)
        except InvalidError:
            self._write_less(records)
            return
        header = batches.Header(self._device, self._epoch, self._sequence + 1, self._clock.now())
        try:
            self._append(batches.wrap(header, body))
        except (OSError, SpaceError) as error:
            self._drop(len(records))
            if not self._trouble:
                log.error("records are dropped", extra={"reason": str(error)})  # noqa: TRY400 - no bug here
            self._trouble = str(error)
            return
        self._sequence += 1
        self.written += len(records)
        if self._trouble:
            log.info("records are kept again", extra={"dropped": self.dropped})
            self._trouble = ""

    def _write_less(self, records: list[Record]) -> None:
        if len(records) > 1:
            self._write(records[: len(records) // 2])
            self._write(records[len(records) // 2 :])
            return
        less = capture.lessened(records[0])
        if less is None:
            self._drop(1)
        else:
            self._write([msgspec.structs.replace(records[0], **less)])

    def _append(self, payload: bytes) -> None:
        frame = len(payload).to_bytes(LENGTH_BYTES, "big") + payload
        if self._handle is None:
            self._begin_file()
        assert self._handle is not None
        self._require_room(len(frame))
        try:
            written = os.write(self._handle, frame)
        except OSError:
            os.ftruncate(self._handle, self._size)
            raise
        if written < len(frame):
            os.ftruncate(self._handle, self._size)
            raise SpaceError(str(self._path), needed_bytes=len(frame), free_bytes=written)
        self._size += len(frame)
        if self._size >= self._file_bytes:
            self._finish_file()

    def _require_room(self, needed_bytes: int) -> None:
        held = sum(path.stat().st_size for path in _all(self._directory))
        left = min(self._cap_bytes - held, files.free_bytes(self._directory) - LEAVE_BYTES)
        if left < needed_bytes:
            free = max(0, left)
            raise SpaceError(str(self._directory), needed_bytes=needed_bytes, free_bytes=free)

    def _begin_file(self) -> None:
        self._number += 1
        self._path = self._directory / f"{self._epoch}-{self._number:08d}{OPEN}"
        self._handle = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600
        )
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        self._size, self._opened = 0, time.monotonic()

    def _finish_file(self) -> None:
        handle, self._handle = self._handle, None
        if handle is None:
            return
        try:
            os.fsync(handle)
            if self._size:
                self._path.rename(self._path.with_suffix(WHOLE))
            else:
                self._path.unlink()
        except OSError as error:
            log.warning("captured file not finished", extra={"reason": str(error)})
        finally:
            os.close(handle)

    def _drop(self, count: int) -> None:
        with self._counting:
            self.dropped += count


def read(path: Path) -> Iterator[bytes]:
    """Yield the batches of a file, as runtime.batches.decode_batch takes them; stop where it ends.

    A torn last batch is left out.
    """
    with path.open("rb") as file:
        while len(head := file.read(LENGTH_BYTES)) == LENGTH_BYTES:
            length = int.from_bytes(head, "big")
            if length > batches.MAX_BATCH_BYTES:
                raise InvalidError(
                    "batch", length, f"a batch has at most {batches.MAX_BATCH_BYTES}"
                )
            payload = file.read(length)
            if len(payload) < length:
                return
            yield payload


def _sweep(directory: Path) -> None:
    """Make whole what writers left that are not there any more."""
    for path in directory.glob(f"*{OPEN}"):
        with contextlib.suppress(OSError), path.open("rb+") as file:
            # A writer that lives holds the lock.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                size = sum(LENGTH_BYTES + len(payload) for payload in read(path))
            except InvalidError as error:
                log.warning("captured file is damaged", extra={"reason": str(error)})
                continue
            file.truncate(size)
            if size:
                path.rename(path.with_suffix(WHOLE))
            else:
                path.unlink()


def _all(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.suffix in {WHOLE, OPEN}]
