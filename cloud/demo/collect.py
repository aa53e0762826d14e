"""What the registry has: every record, read through its API like any client would."""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cloud import shapes
from cloud.client import Client
from cloud.demo.score import Key, Stored

PAGE = 1000
POLL_S = 0.2

Transfers = dict[str, dict[str, shapes.Transfer]]
"""Device and module to what fetching it has cost."""


@dataclass
class Collected:
    """The records so far."""

    records: list[Stored] = field(default_factory=list)
    as_json_bytes: int = 0
    """Of the same records, had each been one JSON message."""
    _after: int = 0

    def read(self, registry: Client) -> None:
        """Read what has arrived since the last time."""
        while True:
            page = registry.records(cursor=self._after, limit=PAGE)
            for record in page.items:
                self._add(record)
            if page.next is None:
                return

    def _add(self, record: shapes.Record) -> None:
        self._after = record.id
        plain = record.model_dump(exclude={"id"}, exclude_none=True)
        self.as_json_bytes += len(json.dumps(plain, separators=(",", ":")))
        labels = (record.outputs or {}).get("label")
        self.records.append(
            Stored(
                device=record.device,
                model=record.model,
                version=record.version,
                item=record.item,
                request=record.request,
                label=labels[0] if labels else None,
            )
        )

    def wait_for(
        self,
        registry: Client,
        wanted: Iterable[Key],
        *,
        timeout_s: float,
        tell: Callable[[str], None],
    ) -> set[Key]:
        """Read until every key is there, or nothing new came for `timeout_s`; return the rest."""
        missing = set(wanted)
        whole, quiet_since, pause = len(missing), time.monotonic(), threading.Event()
        while True:
            before = len(self.records)
            self.read(registry)
            missing -= {record.key for record in self.records}
            tell(f"{whole - len(missing)} of {whole} records")
            if len(self.records) > before:
                quiet_since = time.monotonic()
            if not missing or time.monotonic() > quiet_since + timeout_s:
                return missing
            pause.wait(POLL_S)


def telemetry_bytes(database: Path) -> int:
    """Return what all batches had on the wire; the registry notes it with each."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        (total,) = connection.execute("SELECT coalesce(sum(size_bytes), 0) FROM batch").fetchone()
    return int(total)


def delta_is_made(database: Path) -> bool:
    """Say whether the registry is done with a delta, whatever became of it."""
    made = "SELECT count(*) FROM encoding WHERE base != '' AND state != 'making'"
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute(made).fetchone()
    return int(count) > 0


def transfers(registry: Client, devices: Iterable[str]) -> Transfers:
    """Return what each device says that fetching each of its modules has cost."""
    return {
        device: {
            module.name: module.transfer
            for module in registry.device(device).modules
            if module.transfer is not None
        }
        for device in devices
    }
