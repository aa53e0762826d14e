"""From the spools into the outbox.

The only place where a record could be lost or doubled on the device, hence its order: read frames,
commit their records together with the cursors behind them, and only then remove segments. What is
read but not committed lives in memory alone; after a kill the cursors lead to it again.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from edge_agent.telemetry import batcher
from edge_agent.telemetry.batcher import Batcher, Packed, Sized
from edge_agent.telemetry.outbox import Intake, Outbox, OutboxStats
from edge_agent.telemetry.segments import Frame
from edge_agent.telemetry.spool import SpoolReader
from runtime import batches
from runtime.errors import InvalidError

log = logging.getLogger(__name__)


class SpoolIntake:
    """Moves records of all modules; to be used by one thread.

    `move` and `flush` raise SpaceError or OutboxError when the outbox cannot take records; these
    stay where they are, and the next call tries again.
    """

    def __init__(
        self, outbox: Outbox, spool_root: Path, waiting: Batcher, now: Callable[[], float]
    ) -> None:
        self._outbox = outbox
        self._root = spool_root
        self._waiting = waiting
        self._now = now
        self._readers: dict[str, SpoolReader] = {}
        self._cursors: dict[str, dict[str, int]] = {}
        """By module and segment: how far it was read, committed or not."""
        self._read: dict[tuple[str, str], int] = {}
        """(module, segment) to the cursor that the next commit takes over."""
        self._positions: dict[tuple[str, str], str] = {}
        self._removed: list[tuple[str, str]] = []
        self._drops: dict[str, int] = {}
        self._committing = threading.Lock()
        """While counts go over to the outbox: nobody shall find them on both sides, or on none."""
        self.newest: dict[str, batches.Record] = {}
        """The last record of each module, in memory alone; any thread may look."""
        self.committed = 0
        """How many batches the outbox took."""

    def modules(self) -> list[str]:
        """Return the modules that have a spool."""
        if not self._root.is_dir():
            return []
        return sorted(path.name for path in self._root.iterdir() if path.is_dir())

    @property
    def due_at(self) -> float | None:
        """When `flush` is due, on the clock given to `move`; None while nothing waits."""
        return self._waiting.due_at

    @property
    def torn(self) -> int:
        """How many frames dying workers left unfinished: predictions that were never answered."""
        return sum(reader.torn for reader in list(self._readers.values()))

    def move(self, module: str, monotonic: float) -> None:
        """Read all that lies in a module's spool now; flush whenever a batch is full."""
        reader = self._reader(module)
        cursors = self._cursors[module]
        while True:
            if self._waiting.full:
                self.flush()
            frames = reader.read(cursors, batcher.FLUSH_RECORDS)
            if not frames:
                break
            for frame in frames:
                self._take(module, frame, monotonic)
            cursors[frames[-1].segment] = frames[-1].end
        if self._waiting.due_at is None and self._read:
            self.flush()  # only what is no record: nothing else would remember the cursors
        self._remove_finished(module)

    def flush(self) -> None:
        """Commit all that was read."""
        packed, lost = _packed(self._waiting.peek())
        drops = dict(self._drops)
        if lost:
            drops["unpackable"] = drops.get("unpackable", 0) + lost
        if not (packed or drops or self._read or self._positions):
            return
        intake = Intake(packed, self._read, self._positions, self._removed, drops)
        with self._committing:
            self.committed += len(self._outbox.add(intake, self._now()))
            self._drops = {}
        self._waiting.clear()
        self._read = {}
        self._positions = {}
        self._removed = []
        for module in self._readers:
            self._remove_finished(module)

    def secure(self) -> None:
        """Make durable where they lie the records that could not be committed."""
        for module in self.modules():
            self._secure(module)

    def _secure(self, module: str) -> None:
        try:
            SpoolReader(self._root / module).sync()
        except OSError as error:
            log.warning("spool not synced", extra={"spool": module, "reason": str(error)})

    def drop(self, reason: str, records: int = 1) -> None:
        """Count records that are lost; the next commit makes the count durable."""
        self._drops = {**self._drops, reason: self._drops.get(reason, 0) + records}

    def drops(self) -> dict[str, int]:
        """Return the counts that are not committed yet; any thread may ask."""
        return self._drops

    def stats(self) -> tuple[OutboxStats, dict[str, int]]:
        """Return how the outbox is, and `drops` of the same moment; any thread may ask."""
        with self._committing:
            return self._outbox.stats(), self._drops

    def _reader(self, module: str) -> SpoolReader:
        if module not in self._readers:
            directory = self._root / module
            cursors = self._outbox.cursors(module)
            self._removed += [
                (module, segment) for segment in cursors if not (directory / segment).exists()
            ]
            self._cursors[module] = cursors
            self._readers[module] = SpoolReader(directory)
        return self._readers[module]

    def _take(self, module: str, frame: Frame, monotonic: float) -> None:
        self._read[module, frame.segment] = frame.end
        try:
            record = batches.read_record(frame.payload)
        except InvalidError as error:
            log.warning("frame is no record", extra={"spool": module, "reason": str(error)})
            self.drop("unreadable")
            return
        self.newest[module] = record
        self._waiting.add(Sized(record, len(frame.payload)), monotonic)
        if record.source is not None and record.position is not None:
            self._positions[module, record.source] = record.position

    def _remove_finished(self, module: str) -> None:
        """Remove segments of dead writers that are wholly in the outbox."""
        reader = self._readers[module]
        cursors = self._cursors[module]
        for segment in reader.finished(cursors):
            if (module, segment) in self._read:
                continue  # read, but not committed yet
            damaged = reader.bad
            reader.remove(segment, cursors.pop(segment, 0))
            if reader.bad > damaged:
                self.drop("spool_damaged")
            self._removed.append((module, segment))


def _packed(groups: Iterable[list[batches.Record]]) -> tuple[list[Packed], int]:
    packed: list[Packed] = []
    lost = 0
    for group in groups:
        more, missed = batcher.pack(group)
        packed += more
        lost += missed
    return packed, lost
