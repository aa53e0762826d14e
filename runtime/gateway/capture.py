"""Requests kept with their answers, for people to look at and to train on.

One JSON object a line, in files that are rotated and together never exceed DIRECTORY_BYTES: the
oldest go first. Bodies that are text are kept as text, others in base64 (`request_base64`,
`answer_base64`). A thread of its own writes; what it does not keep up with is dropped and counted.
"""

import base64
import contextlib
import logging
import queue
import threading
import time
from pathlib import Path
from typing import BinaryIO

import msgspec

from runtime import files
from runtime.gateway.choice import sampled
from runtime.gateway.config import Config
from runtime.gateway.exchanges import Answered, Asked

log = logging.getLogger(__name__)

QUEUE_MOST = 1024
QUEUE_BYTES = 32 * 1024 * 1024
FILE_BYTES = 16 * 1024 * 1024
DIRECTORY_BYTES = 256 * 1024 * 1024
_GLOB = "capture-*.jsonl"
_Item = tuple[float, Asked, Answered]


class Capturer:
    """Writes below one directory."""

    def __init__(
        self,
        directory: Path,
        *,
        file_bytes: int = FILE_BYTES,
        directory_bytes: int = DIRECTORY_BYTES,
    ) -> None:
        """Make the directory and start the thread. Raises OSError if it cannot be made."""
        self._directory = files.make_directory(directory)
        self._file_bytes, self._directory_bytes = file_bytes, directory_bytes
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._queued_bytes = 0
        self._seen = 0
        self.kept = 0
        """Handed to the thread."""
        self.dropped = 0
        """Not kept, since the disk does not keep up or the body is too large."""
        self._file: BinaryIO | None = None
        self._files = 0
        self._trouble = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def offer(self, config: Config, asked: Asked, answered: Answered) -> None:
        """Keep a request and its answer if it is its turn; never waits."""
        if config.capture is None or asked.method != "POST":
            return
        self._seen += 1
        if not sampled(self._seen - 1, config.capture.fraction):
            return
        size = len(asked.body) + len(answered.body)
        too_large = max(len(asked.body), len(answered.body)) > config.capture.max_body_bytes
        full = self._queue.qsize() >= QUEUE_MOST or self._queued_bytes + size > QUEUE_BYTES
        if too_large or full:
            self.dropped += 1
            return
        with self._lock:
            self._queued_bytes += size
        self.kept += 1
        self._queue.put((time.time(), asked, answered))

    def stop(self) -> None:
        """Write what is queued, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            with self._lock:
                self._queued_bytes -= len(item[1].body) + len(item[2].body)
            try:
                self._write(_line(item))
            except OSError as error:
                self._fail(error)
        if self._file is not None:
            self._file.close()

    def _write(self, line: bytes) -> None:
        if self._file is None or self._file.tell() + len(line) > self._file_bytes:
            self._turn()
        assert self._file is not None
        self._file.write(line)
        if self._queue.empty():
            self._file.flush()
        self._trouble = False

    def _turn(self) -> None:
        """Begin a new file, and make room for it."""
        if self._file is not None:
            self._file.close()
            self._file = None
        room = self._directory_bytes - self._file_bytes
        for path in sorted(self._directory.glob(_GLOB), reverse=True):
            room -= path.stat().st_size
            if room < 0:
                path.unlink()
        self._files += 1
        path = self._directory / f"capture-{time.time_ns():020d}-{self._files:06d}.jsonl"
        path.touch(mode=0o600, exist_ok=False)
        self._file = path.open("ab")

    def _fail(self, error: OSError) -> None:
        self.dropped += 1
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        if not self._trouble:
            facts = {"directory": str(self._directory), "error": str(error)}
            log.error("requests are not captured", extra=facts)
        self._trouble = True


def _line(item: _Item) -> bytes:
    at, asked, answered = item
    kept = {
        "at": at,
        "id": asked.id,
        "path": asked.target,
        "revision": answered.revision,
        "status": answered.status,
        "latency_ms": round(answered.latency_s * 1000, 3),
        **_body("request", asked.body),
        **_body("answer", answered.body),
    }
    return msgspec.json.encode(kept) + b"\n"


def _body(name: str, body: bytes) -> dict[str, str]:
    try:
        return {name: body.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(body).decode("ascii")}
