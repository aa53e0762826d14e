"""From predictions to records in the spool, before anyone hears of the prediction.

One thread of its own tells the agent about new records. It sleeps while there are none. Against a
power cut it is the agent that makes them durable, with its outbox; the spool is only synced for who
waits for that, and at the end: flash wears out by each sync.
"""

import logging
import threading
import time
from collections.abc import Callable

import msgspec

from edge_agent.telemetry.spool import SpoolWriter
from edge_agent.worker.protocol import Start
from runtime.batches import Record
from runtime.clock import Clock
from runtime.errors import InvalidError, SpaceError
from runtime.serving import capture
from runtime.serving.capture import Maker, Sampler
from runtime.serving.served import Origin, Prediction

log = logging.getLogger(__name__)

TELL_S = 0.2
"""Spooled is sent at most this often."""
SYNC_S = 0.8
"""Who waits for records to be durable waits so long: others may want the same by then."""


class Recorder:
    """Writes the records of one worker. Its methods may be called from any thread."""

    def __init__(
        self, spool: SpoolWriter, start: Start, clock: Clock, on_spooled: Callable[[int], None]
    ) -> None:
        """Begin.

        `on_spooled` is called from the recorder's thread when there are new records; it is told how
        many have been dropped since it was called before.
        """
        self._spool, self._start, self._clock, self._on_spooled = spool, start, clock, on_spooled
        self._encoder = msgspec.msgpack.Encoder()
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._told, self._closed = True, False
        self._after_sync: list[Callable[[], None]] = []
        self._full, self._unsynced = False, ""
        self.dropped = 0
        """Records of requests that the spool had no room for."""
        self._dropped_told = 0
        self._sampler = Sampler(start.capture.inputs)
        self._maker = Maker(start.module, start.bundle, start.model, start.version)
        self._thread = threading.Thread(target=self._keep, name="recorder", daemon=True)
        self._thread.start()

    def saw(self, prediction: Prediction, maker: Maker | None = None) -> None:
        """Record a prediction, of this worker or of another maker.

        Without room, a request's record is dropped, and a source's is a SpaceError. So a client has
        its answer all the same, and a source waits with its next input.
        """
        maker = maker or self._maker
        record = capture.record_of(prediction, maker, self._start.capture, self._sampler)
        try:
            self._append(record)
        except SpaceError:
            if prediction.origin is not None:
                raise

    def failed(self, origin: Origin, error: str) -> None:
        """Record an input that never reached the model; raise SpaceError without room."""
        record = capture.record_of_failure(self._clock.now(), origin, error, self._maker)
        self._append(record)

    def after_sync(self, function: Callable[[], None]) -> None:
        """Call a function, in another thread, once all that was recorded so far is durable."""
        with self._lock:
            self._after_sync.append(function)
            self._news.notify()

    def sync(self) -> None:
        """Make everything recorded so far durable, then call what waits for that."""
        with self._lock:
            waiting, self._after_sync = self._after_sync, []
        try:
            self._spool.sync()
        except OSError:
            with self._lock:
                self._after_sync[:0] = waiting
            raise
        for function in waiting:
            _call_quietly(function)

    def close(self) -> None:
        """End the thread, and make everything durable."""
        with self._lock:
            self._closed = True
            self._news.notify()
        self._thread.join()
        try:
            self.sync()
        except OSError:
            log.exception("spool not synced at the end")
        if self.dropped > self._dropped_told:
            self._tell()
        self._spool.close()

    def _append(self, record: Record) -> None:
        try:
            self._append_what_fits(record)
        except SpaceError as error:
            if record.source is None:
                self._note_dropped()
            if not self._full:
                self._full = True
                log.error("records are dropped", extra={"reason": str(error)})  # noqa: TRY400 - no bug here
            raise
        if self._full:
            self._full = False
            log.info("records are kept again", extra={"dropped": self.dropped})
        with self._lock:
            if self._told:
                self._told = False
                self._news.notify()

    def _note_dropped(self) -> None:
        with self._lock:
            self.dropped += 1
            if self._told:
                self._told = False
                self._news.notify()

    def _append_what_fits(self, record: Record) -> None:
        """Append a record; one that is too large goes without inputs, then without outputs."""
        try:
            return self._spool.append(self._encoder.encode(record))
        except InvalidError:
            less = capture.lessened(record)
            if less is None:
                raise
        return self._append_what_fits(msgspec.structs.replace(record, **less))

    def _keep(self) -> None:
        """Tell, and sync for who waits for it, at most so often."""
        sync_at: float | None = None
        while True:
            with self._news:
                self._news.wait_for(lambda: self._closed or not self._told or self._after_sync)
                if self._closed:
                    return
                tell, self._told = not self._told, True
                waited_for = bool(self._after_sync)
            if tell:
                self._tell()
            now = time.monotonic()
            if waited_for:
                sync_at = sync_at or now + SYNC_S
            if sync_at is not None and now >= sync_at:
                self._sync_quietly()
                sync_at = None
            with self._news:
                self._news.wait_for(lambda: self._closed, timeout=TELL_S)

    def _tell(self) -> None:
        dropped = self.dropped
        self._on_spooled(dropped - self._dropped_told)
        self._dropped_told = dropped

    def _sync_quietly(self) -> None:
        try:
            self.sync()
        except OSError as error:
            if not self._unsynced:
                log.exception("records are not durable")
            self._unsynced = str(error)
        else:
            self._unsynced = ""


def _call_quietly(function: Callable[[], None]) -> None:
    try:
        function()
    except OSError:
        log.exception("not tidied up after a sync")
