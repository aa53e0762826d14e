"""Records become batches: when, how many, and packed how. Pure: no clock, no disk.

A batch holds records of one class, so that the outbox can drop what matters least. Records wait
for company until there are enough of them or the oldest has waited long enough; an alarm waits for
none.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from runtime import batches
from runtime.batches import Record
from runtime.errors import InvalidError

CLASSES = ("alarm", "result", "sample", "debug")
"""Kinds of records, the most important first; any other kind counts as the last."""
FLUSH_RECORDS = 500
FLUSH_BYTES = 384 * 1024
"""Of frames; packed they are smaller, so nearly always one batch."""
FLUSH_S = 4.0
"""Also what a power cut may take: flash wears out by each commit, however small."""


class Sized(NamedTuple):
    """A record and the size of the frame it came in."""

    record: Record
    size_bytes: int


class Packed(NamedTuple):
    """Records of one class, as the body of a batch."""

    kind: str
    records: int
    body: bytes


class Batcher:
    """Records that wait for company."""

    def __init__(
        self,
        *,
        records: int = FLUSH_RECORDS,
        size_bytes: int = FLUSH_BYTES,
        flush_s: float = FLUSH_S,
    ) -> None:
        self._most_records = min(records, batches.MAX_BATCH_RECORDS)
        self._most_bytes = size_bytes
        self._flush_s = flush_s
        self._waiting: list[Sized] = []
        self._held_bytes = 0
        self.due_at: float | None = None
        """When to flush at the latest, on the clock of `add`; None while nothing waits."""

    def add(self, sized: Sized, now: float) -> None:
        """Let one record wait, from `now` on (seconds on any clock that never jumps back)."""
        urgent = rank_of(sized.record.kind) == 0
        due_at = now if urgent else now + self._flush_s
        self.due_at = due_at if self.due_at is None else min(self.due_at, due_at)
        self._waiting.append(sized)
        self._held_bytes += sized.size_bytes

    @property
    def full(self) -> bool:
        """Whether to flush without waiting any longer."""
        return len(self._waiting) >= self._most_records or self._held_bytes >= self._most_bytes

    def due(self, now: float) -> bool:
        """Say whether it is time to flush."""
        return self.full or (self.due_at is not None and now >= self.due_at)

    def peek(self) -> list[list[Record]]:
        """Return all that waits, in groups that each make a batch: classes apart, in order."""
        groups = []
        by_class = sorted(self._waiting, key=_rank)
        for _, alike in itertools.groupby(by_class, key=_rank):
            groups += _cut(alike, self._most_records, self._most_bytes)
        return groups

    def clear(self) -> None:
        """Forget all that waits: it is safe elsewhere."""
        self._waiting.clear()
        self._held_bytes = 0
        self.due_at = None


def rank_of(kind: str) -> int:
    """Return the place of a kind in CLASSES."""
    return CLASSES.index(kind) if kind in CLASSES else len(CLASSES) - 1


def pack(records: Sequence[Record]) -> tuple[list[Packed], int]:
    """Return batches of these records, and how many records no batch can carry.

    One batch, unless the records are more than one may hold: then halves, and halves of these.
    """
    try:
        body = batches.encode_records(records)
    except InvalidError:
        if len(records) == 1:
            return [], 1
        half = len(records) // 2
        first, lost_first = pack(records[:half])
        second, lost_second = pack(records[half:])
        return first + second, lost_first + lost_second
    return [Packed(records[0].kind, len(records), body)], 0


def _rank(sized: Sized) -> int:
    return rank_of(sized.record.kind)


def _cut(sized: Iterable[Sized], most_records: int, most_bytes: int) -> list[list[Record]]:
    groups: list[list[Record]] = []
    room = 0
    for record, size in sized:
        if not groups or len(groups[-1]) >= most_records or room < size:
            groups.append([])
            room = most_bytes
        groups[-1].append(record)
        room -= size
    return groups
