"""Batches that the registry has, and that the outbox's file holds until its next commit.

To delete a batch touches the same pages as to add the next one. A commit of its own would have the
disk write them twice; flash wears out by that. Whoever is killed before the next commit sends these
batches again, and the registry knows their numbers.
"""

import json
import sqlite3
from collections.abc import Iterable

MOST_BATCHES, MOST_BYTES = 64, 64 * 1024
"""When there are so many, they are worth a commit of their own: their room is wanted back."""


class Leaving:
    """What is left out of all that is told of the file."""

    def __init__(self) -> None:
        """None, at first."""
        self._found: dict[int, tuple[int, int]] = {}
        """Sequence to the number of its records and the size of its body."""

    @property
    def sequences(self) -> list[int]:
        """Their numbers."""
        return list(self._found)

    @property
    def records(self) -> int:
        """How many records they hold."""
        return sum(records for records, _ in self._found.values())

    @property
    def body_bytes(self) -> int:
        """How large they are."""
        return sum(size for _, size in self._found.values())

    @property
    def overdue(self) -> bool:
        """Whether they shall go at once."""
        return len(self._found) > MOST_BATCHES or self.body_bytes > MOST_BYTES

    def note(self, rows: sqlite3.Connection, sequences: Iterable[int]) -> tuple[int, int]:
        """Add those of these batches that are in the file; return how many batches and records."""
        found = rows.execute(
            "SELECT sequence, records, size FROM batches"
            " WHERE sequence IN (SELECT value FROM json_each(?))",
            (json.dumps([one for one in sequences if one not in self._found]),),
        ).fetchall()
        self._found.update({sequence: (records, size) for sequence, records, size in found})
        return len(found), sum(records for _, records, _ in found)

    def take_out(self, rows: sqlite3.Connection) -> None:
        """Delete them, in a transaction that is open. Forget them once it is committed."""
        rows.executemany("DELETE FROM batches WHERE sequence = ?", [(one,) for one in self._found])

    def forget(self) -> None:
        """Take note that they are gone."""
        self._found.clear()
