"""Telemetry that waits on the device's disk until the registry has it.

One SQLite file. A transaction takes over what was read from the spools: the packed batches, how far
each segment was read, and where each source goes on. So each record is in the outbox exactly once,
wherever a kill or a power cut falls. A batch leaves when the registry acknowledges it, or, counted
by reason in `drops`, when its class's time is over, when more important ones need its room, or when
the registry cannot read it.

Batches are numbered within an epoch: a random word, made with the file. Numbers are never used
again, so (epoch, number) names one batch for ever. A damaged file is set aside and a new epoch
begins; cursors and positions are carried over as far as they can be read.

Every method may raise OutboxError or SpaceError; then nothing was changed, and waiting may help.
The file is opened on first use, so that a full disk never keeps an agent from starting.
"""

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from edge_agent.telemetry import outboxfile, outboxrows
from edge_agent.telemetry.batcher import Packed
from edge_agent.telemetry.leaving import Leaving
from runtime import files
from runtime.errors import InvalidError

KEEP_S: Mapping[str, float] = {"result": 90 * 86400.0, "sample": 14 * 86400.0, "debug": 2 * 86400.0}
"""How long a batch of a class waits at most; an alarm waits until it is heard."""
CAP_BYTES = 128 << 20
MIN_CAP_BYTES = 8 << 20
MAX_DEAD = 4
"""How many batches that kill every connection are kept for a person to look at."""

_RESERVE_BYTES = outboxfile.WAL_BYTES + (1 << 20)
"""Of the cap: for the write-ahead log and the pages that are not batches."""
_VACUUM_BYTES = 1 << 20
_LEAVE_BYTES = 4 << 20
"""What `add` leaves free on the disk: to delete takes room too, in the write-ahead log."""


class Waiting(NamedTuple):
    """A batch that the registry has not acknowledged."""

    epoch: str
    sequence: int
    records: int
    body: bytes


@dataclass(frozen=True)
class Intake:
    """What one transaction takes over from the spools."""

    batches: Sequence[Packed] = ()
    cursors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(module, segment) to the end of the last frame taken."""
    positions: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(module, source) to where that source goes on."""
    removed: Sequence[tuple[str, str]] = ()
    """(module, segment) that are no more: their cursors go too."""
    drops: Mapping[str, int] = field(default_factory=dict)
    """Records that could not be kept, by reason."""


@dataclass(frozen=True)
class OutboxStats:
    """What waits, and what did not."""

    records: int
    batches: int
    body_bytes: int
    disk_bytes: int
    oldest_at: float | None
    """Device clock, seconds since 1970."""
    dead: int
    drops: Mapping[str, int]


class Outbox:
    """The queue on disk. Any thread may use it; one process at a time."""

    def __init__(
        self, path: Path, *, cap_bytes: int = CAP_BYTES, keep_s: Mapping[str, float] = KEEP_S
    ) -> None:
        """Raises InvalidError if the cap is below MIN_CAP_BYTES. Touches no disk."""
        if cap_bytes < MIN_CAP_BYTES:
            raise InvalidError("cap_bytes", cap_bytes, f"give at least {MIN_CAP_BYTES}")
        self._path = path
        self._cap_bytes = cap_bytes
        self._keep_s = keep_s
        self._lock = threading.RLock()
        self._file: outboxfile.OutboxFile | None = None
        self._carried = outboxfile.Progress()
        self._leaving = Leaving()

    @property
    def epoch(self) -> str:
        """The word within which batches are numbered; changes only when a file is set aside."""
        with self._opened() as file:
            return file.epoch

    @property
    def set_aside(self) -> tuple[Path, ...]:
        """The damaged files that were set aside and are still there."""
        return tuple(outboxfile.all_set_aside(self._path))

    def add(self, intake: Intake, now: float) -> list[int]:
        """Durably take over what was read; return the numbers of the batches that were kept."""
        with self._opened() as file:
            size = sum(len(packed.body) for packed in intake.batches)
            files.require_space(self._path.parent, size + _LEAVE_BYTES)
            return self._add(file, intake, now)

    def pending(self, limit: int, *, skip: Sequence[int] = ()) -> list[Waiting]:
        """Return at most `limit` waiting batches, most important and oldest first."""
        with self._opened() as file:
            found = file.rows.execute(
                "SELECT sequence, records, body FROM batches WHERE sequence NOT IN"
                " (SELECT value FROM json_each(?)) ORDER BY class, sequence LIMIT ?",
                (json.dumps([*skip, *self._leaving.sequences]), limit),
            )
            return [Waiting(file.epoch, *row) for row in found]

    def waiting(self, sequence: int) -> Waiting | None:
        """Return one batch, if it still waits."""
        with self._opened() as file:
            found = file.rows.execute(
                "SELECT sequence, records, body FROM batches WHERE sequence = ?", (sequence,)
            ).fetchone()
            if found is None or sequence in self._leaving.sequences:
                return None
            return Waiting(file.epoch, *found)

    def delete(self, sequences: Sequence[int], *, drop: str | None = None) -> int:
        """Forget batches, counting their records under `drop` if given; return how many were there.

        In the file they are until the next commit, so that one commit does both; a kill or a power
        cut before it brings them back, to be sent and acknowledged again.
        """
        with self._opened() as file:
            count, records = self._leaving.note(file.rows, sequences)
            if self._leaving.overdue or (drop is not None and count):
                self._take_out(file, {} if drop is None else {drop: records})
                self._give_back(file)
        return count

    def bury(self, sequence: int, reason: str) -> None:
        """Set one batch aside so that the others go on; only the newest MAX_DEAD are kept."""
        with self._opened() as file, file.transaction(durable=True) as rows:
            rows.execute(
                "INSERT INTO dead SELECT sequence, ?, body FROM batches WHERE sequence = ?",
                (reason, sequence),
            )
            rows.execute(
                "DELETE FROM dead WHERE sequence NOT IN"
                " (SELECT sequence FROM dead ORDER BY rowid DESC LIMIT ?)",
                (MAX_DEAD,),
            )
            gone = rows.execute(
                "DELETE FROM batches WHERE sequence = ? RETURNING records", (sequence,)
            ).fetchall()
            outboxrows.count(rows, {reason: sum(row[0] for row in gone)})

    def cursors(self, module: str) -> dict[str, int]:
        """Return how far each segment of a module's spool was taken over."""
        with self._opened():
            cursors = self._carried.cursors.items()
            return {segment: end for (name, segment), end in cursors if name == module}

    def positions(self, module: str) -> dict[str, str]:
        """Return where each source of a module goes on."""
        with self._opened():
            positions = self._carried.positions.items()
            return {source: position for (name, source), position in positions if name == module}

    def stats(self) -> OutboxStats:
        """Return what waits and what was dropped. Writes nothing."""
        with self._opened() as file:
            records, batches, size, oldest = file.rows.execute(
                "SELECT coalesce(sum(records), 0), count(*), coalesce(sum(size), 0),"
                " min(created) FILTER (WHERE sequence NOT IN (SELECT value FROM json_each(?)))"
                " FROM batches",
                (json.dumps(self._leaving.sequences),),
            ).fetchone()
            (dead,) = file.rows.execute("SELECT count(*) FROM dead").fetchone()
            drops = dict(file.rows.execute("SELECT reason, count FROM drops ORDER BY reason"))
            return OutboxStats(
                records - self._leaving.records,
                batches - len(self._leaving.sequences),
                size - self._leaving.body_bytes,
                file.disk_bytes(),
                oldest,
                dead,
                drops,
            )

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
            if self._file is not None and self._leaving.sequences:
                with contextlib.suppress(sqlite3.Error, OSError):  # they would come once more
                    self._take_out(self._file, {})
            self._shut()

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @contextlib.contextmanager
    def _opened(self) -> Iterator[outboxfile.OutboxFile]:
        """Give the open file to one thread; set a damaged file aside and say so by OutboxError."""
        with self._lock:
            try:
                if self._file is None:
                    self._file = outboxfile.open_file(self._path, self._carried)
                    self._carried = self._file.progress()
                yield self._file
            except (sqlite3.DatabaseError, OSError) as error:
                self._recover(error)
                raise outboxfile.translated(error, self._path) from error

    def _recover(self, error: Exception) -> None:
        """Leave nothing open that the next call could stumble over."""
        if outboxfile.is_damage(error):
            self._shut()
            self._leaving.forget()
            with contextlib.suppress(OSError):
                outboxfile.set_aside(self._path)
        elif self._file is not None and self._file.rows.in_transaction:
            self._shut()

    def _take_out(self, file: outboxfile.OutboxFile, drops: Mapping[str, int]) -> None:
        with file.transaction(durable=False) as rows:
            self._leaving.take_out(rows)
            outboxrows.count(rows, drops)
        self._leaving.forget()

    def _add(self, file: outboxfile.OutboxFile, intake: Intake, now: float) -> list[int]:
        with file.transaction(durable=True) as rows:
            drops = dict(intake.drops)
            self._leaving.take_out(rows)
            outboxrows.expire(rows, now, self._keep_s, drops)
            room = self._cap_bytes - _RESERVE_BYTES
            numbers = [
                number
                for packed in intake.batches
                if (number := outboxrows.insert(file, packed, now, room, drops)) is not None
            ]
            rows.executemany(
                "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)",
                [(*key, end) for key, end in intake.cursors.items()],
            )
            rows.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)",
                [(*key, position) for key, position in intake.positions.items()],
            )
            rows.executemany("DELETE FROM cursors WHERE module = ? AND segment = ?", intake.removed)
            outboxrows.count(rows, drops)
        self._leaving.forget()
        self._carried.cursors.update(intake.cursors)
        self._carried.positions.update(intake.positions)
        for key in intake.removed:
            self._carried.cursors.pop(key, None)
        return numbers

    def _give_back(self, file: outboxfile.OutboxFile) -> None:
        """Shrink the file when most of it is free: slowly, so that no one commit takes long."""
        free = file.free_bytes()
        if free > _VACUUM_BYTES and free > file.used_bytes():
            file.vacuum(_VACUUM_BYTES)
