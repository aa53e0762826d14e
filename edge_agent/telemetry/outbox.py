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

from edge_agent.telemetry import batcher, outboxfile
from edge_agent.telemetry.batcher import Packed
from runtime import clock, files
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
                (json.dumps(list(skip)), limit),
            )
            return [Waiting(file.epoch, *row) for row in found]

    def waiting(self, sequence: int) -> Waiting | None:
        """Return one batch, if it still waits."""
        with self._opened() as file:
            found = file.rows.execute(
                "SELECT sequence, records, body FROM batches WHERE sequence = ?", (sequence,)
            ).fetchone()
            return None if found is None else Waiting(file.epoch, *found)

    def delete(self, sequences: Sequence[int], *, drop: str | None = None) -> int:
        """Forget batches, counting their records under `drop` if given; return how many were there.

        Not durable at once: a power cut may bring them back, to be sent and acknowledged again.
        """
        with self._opened() as file:
            with file.transaction(durable=False) as rows:
                counts = [
                    row[0]
                    for sequence in sequences
                    for row in rows.execute(
                        "DELETE FROM batches WHERE sequence = ? RETURNING records", (sequence,)
                    ).fetchall()
                ]
                if drop is not None and counts:
                    _count(rows, {drop: sum(counts)})
            self._give_back(file)
        return len(counts)

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
            _count(rows, {reason: sum(row[0] for row in gone)})

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
                " min(created) FROM batches"
            ).fetchone()
            (dead,) = file.rows.execute("SELECT count(*) FROM dead").fetchone()
            drops = dict(file.rows.execute("SELECT reason, count FROM drops ORDER BY reason"))
            return OutboxStats(records, batches, size, file.disk_bytes(), oldest, dead, drops)

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
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
            self.close()
            with contextlib.suppress(OSError):
                outboxfile.set_aside(self._path)
        elif self._file is not None and self._file.rows.in_transaction:
            self.close()

    def _add(self, file: outboxfile.OutboxFile, intake: Intake, now: float) -> list[int]:
        with file.transaction(durable=True) as rows:
            drops = dict(intake.drops)
            self._expire(rows, now, drops)
            numbers = [
                number
                for packed in intake.batches
                if (number := self._insert(file, rows, packed, now, drops)) is not None
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
            _count(rows, drops)
        self._carried.cursors.update(intake.cursors)
        self._carried.positions.update(intake.positions)
        for key in intake.removed:
            self._carried.cursors.pop(key, None)
        return numbers

    def _insert(
        self,
        file: outboxfile.OutboxFile,
        rows: sqlite3.Connection,
        packed: Packed,
        now: float,
        drops: dict[str, int],
    ) -> int | None:
        rank = batcher.rank_of(packed.kind)
        room = self._cap_bytes - _RESERVE_BYTES - len(packed.body) - 2 * outboxfile.PAGE_BYTES
        while file.used_bytes() > room:
            victim = rows.execute(
                "DELETE FROM batches WHERE sequence = (SELECT sequence FROM batches"
                " WHERE class >= ? ORDER BY class DESC, sequence LIMIT 1) RETURNING records",
                (rank,),
            ).fetchall()
            evicted = victim[0][0] if victim else packed.records
            drops["evicted"] = drops.get("evicted", 0) + evicted
            if not victim:
                return None
        return rows.execute(
            "INSERT INTO batches (class, created, records, size, body) VALUES (?, ?, ?, ?, ?)",
            (rank, now, packed.records, len(packed.body), packed.body),
        ).lastrowid

    def _expire(self, rows: sqlite3.Connection, now: float, drops: dict[str, int]) -> None:
        """Drop what is too old, judged only between two clock readings that can be true."""
        if not clock.plausible(now):
            return
        for kind, keep_s in self._keep_s.items():
            gone = rows.execute(
                "DELETE FROM batches WHERE class = ? AND created BETWEEN ? AND ? RETURNING records",
                (batcher.rank_of(kind), clock.PLAUSIBLE_SINCE, now - keep_s),
            ).fetchall()
            if gone:
                drops["expired"] = drops.get("expired", 0) + sum(row[0] for row in gone)

    def _give_back(self, file: outboxfile.OutboxFile) -> None:
        """Shrink the file when most of it is free: slowly, so that no one commit takes long."""
        free = file.free_bytes()
        if free > _VACUUM_BYTES and free > file.used_bytes():
            file.vacuum(_VACUUM_BYTES)


def _count(rows: sqlite3.Connection, drops: Mapping[str, int]) -> None:
    rows.executemany(
        "INSERT INTO drops VALUES (?, ?)"
        " ON CONFLICT (reason) DO UPDATE SET count = count + excluded.count",
        drops.items(),
    )
