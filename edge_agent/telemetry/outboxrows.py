"""Rows of the outbox within a transaction: what comes in, and what has to go for it."""

import sqlite3
from collections.abc import Mapping

from edge_agent.telemetry import batcher
from edge_agent.telemetry.batcher import Packed
from edge_agent.telemetry.outboxfile import OutboxFile
from runtime import clock

_SPARE_BYTES = 8 << 10
"""For what a batch takes beside its body."""


def insert(
    file: OutboxFile, packed: Packed, now: float, room_bytes: int, drops: dict[str, int]
) -> int | None:
    """Return the number that a batch has got; None: more important ones take all the room.

    What is less important, or as much and older, goes for it, counted in `drops`.
    """
    rank, size = batcher.rank_of(packed.kind), len(packed.body)
    while file.used_bytes() > room_bytes - size - _SPARE_BYTES:
        victim = file.rows.execute(
            "DELETE FROM batches WHERE sequence = (SELECT sequence FROM batches"
            " WHERE class >= ? ORDER BY class DESC, sequence LIMIT 1) RETURNING records",
            (rank,),
        ).fetchall()
        evicted = victim[0][0] if victim else packed.records
        drops["evicted"] = drops.get("evicted", 0) + evicted
        if not victim:
            return None
    return file.rows.execute(
        "INSERT INTO batches (class, created, records, size, body) VALUES (?, ?, ?, ?, ?)",
        (rank, now, packed.records, size, packed.body),
    ).lastrowid


def expire(
    rows: sqlite3.Connection, now: float, keep_s: Mapping[str, float], drops: dict[str, int]
) -> None:
    """Drop what is too old, judged only between two clock readings that can be true."""
    if not clock.plausible(now):
        return
    for kind, limit_s in keep_s.items():
        gone = rows.execute(
            "DELETE FROM batches WHERE class = ? AND created BETWEEN ? AND ? RETURNING records",
            (batcher.rank_of(kind), clock.PLAUSIBLE_SINCE, now - limit_s),
        ).fetchall()
        if gone:
            drops["expired"] = drops.get("expired", 0) + sum(row[0] for row in gone)


def count(rows: sqlite3.Connection, drops: Mapping[str, int]) -> None:
    """Add to the counts of what was dropped."""
    rows.executemany(
        "INSERT INTO drops VALUES (?, ?)"
        " ON CONFLICT (reason) DO UPDATE SET count = count + excluded.count",
        drops.items(),
    )
