"""Telemetry of a simulated device: records made at a pace, in real batches, by the real sender.

    made ─► spool ─► batcher ─► outbox ─► sender ─► broker ─► registry ─► Ack: delete

Spool and outbox are in memory and survive a simulated power cut, as the files of a real device do.
"""

import random
import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_agent.simulation.faults import Faults
from edge_agent.simulation.loop import Timer
from edge_agent.telemetry import batcher
from edge_agent.telemetry.batcher import Batcher, Sized
from edge_agent.telemetry.outbox import Waiting
from edge_agent.telemetry.path import TelemetryStats
from edge_agent.telemetry.sender import Sender
from runtime.batches import Record
from runtime.clock import Clock
from runtime.messages import Ack, RunningVersion
from runtime.topics import DeviceId

FRAME_BYTES = 120
"""About what such a record takes in a spool."""
MODULE = "simulated"
Later = Callable[[float, Callable[[], None]], Timer]
Answering = Callable[[], RunningVersion | None]


class Records(Protocol):
    """What a life needs of its telemetry."""

    def start(self) -> None:
        """Begin to make records, if any."""
        ...

    def on_ack(self, ack: Ack) -> None:
        """The registry holds batches up to this."""
        ...

    def on_connected(self) -> None:
        """Send what waits."""
        ...

    def on_disconnected(self) -> None:
        """Wait."""
        ...

    def stalled_since(self) -> float | None:
        """Return since when nothing has been acknowledged that should be."""
        ...

    def stats(self) -> TelemetryStats:
        """Return what waits."""
        ...


class NoRecords:
    """The telemetry of a device that predicts nothing."""

    def start(self) -> None:
        """There is nothing to make."""

    def on_ack(self, ack: Ack) -> None:
        """There is nothing to delete."""

    def on_connected(self) -> None:
        """There is nothing to send."""

    def on_disconnected(self) -> None:
        """There is nothing to send."""

    def stalled_since(self) -> float | None:
        """Nothing waits."""
        return None

    def stats(self) -> TelemetryStats:
        """Return that nothing waits."""
        return TelemetryStats()

    def troubles(self) -> list[str]:
        """Return that all is well."""
        return []


class MemoryOutbox:
    """What waits for the registry; does what Outbox does, on no disk."""

    def __init__(self) -> None:
        """Begin empty, with an epoch of its own."""
        self._epoch = secrets.token_hex(8)
        self.spool: list[Record] = []
        """Records that are in no batch yet."""
        self.made = self.dropped = 0
        self._waiting: dict[int, Waiting] = {}
        self._last = 0

    @property
    def epoch(self) -> str:
        """The word within which batches are numbered."""
        return self._epoch

    @property
    def records(self) -> int:
        """How many records wait."""
        return len(self.spool) + sum(batch.records for batch in self._waiting.values())

    @property
    def batches(self) -> int:
        """How many batches wait."""
        return len(self._waiting)

    def take_over(self, groups: Sequence[Sequence[Record]]) -> None:
        """Make batches of what lay in the spool."""
        for group in groups:
            packed, lost = batcher.pack(group)
            self.dropped += lost
            for each in packed:
                self._last += 1
                self._waiting[self._last] = Waiting(self.epoch, self._last, each.records, each.body)
        self.spool.clear()

    def pending(self, limit: int, *, skip: Sequence[int] = ()) -> list[Waiting]:
        """Return at most `limit` waiting batches, the oldest first."""
        left = [each for number, each in self._waiting.items() if number not in skip]
        return left[:limit]

    def waiting(self, sequence: int) -> Waiting | None:
        """Return one batch, if it still waits."""
        return self._waiting.get(sequence)

    def delete(self, sequences: Sequence[int], *, drop: str | None = None) -> int:
        """Forget batches; return how many were there."""
        gone = [self._waiting.pop(each) for each in sequences if each in self._waiting]
        if drop is not None:
            self.dropped += sum(each.records for each in gone)
        return len(gone)

    def bury(self, sequence: int, reason: str) -> None:
        """Set one batch aside."""
        self.delete([sequence], drop=reason)


class Predictions:
    """Makes records while a model answers, and sends them; ends with the device's power."""

    def __init__(
        self,
        outbox: MemoryOutbox,
        device: DeviceId,
        publish: Callable[[bytes], None],
        answering: Answering,
        *,
        per_s: float,
        faults: Faults,
        rng: random.Random,
        clock: Clock,
        later: Later,
    ) -> None:
        """`publish` raises LinkError when not connected."""
        self._outbox, self._device, self._answering = outbox, device, answering
        self._per_s, self._faults, self._rng = per_s, faults, rng
        self._clock, self._later = clock, later
        self._sender = Sender(outbox, device, publish, clock.now)
        self._batcher = Batcher()
        self._flush: Timer | None = None
        self._step: Timer | None = None

    def start(self) -> None:
        """Begin to make records; what lay in the spool before comes first."""
        for record in self._outbox.spool:
            self._batcher.add(Sized(record, FRAME_BYTES), self._clock.monotonic())
        self._flush_later()
        self._make_later()

    def on_ack(self, ack: Ack) -> None:
        """Delete what the registry has."""
        self._sender.acknowledge(ack, self._clock.monotonic())
        self._send()

    def on_connected(self) -> None:
        """Send what waits."""
        self._sender.connected(self._clock.monotonic())
        self._send()

    def on_disconnected(self) -> None:
        """Wait."""
        self._sender.disconnected()

    def stalled_since(self) -> float | None:
        """Return since when nothing has been acknowledged that should be."""
        return self._sender.stalled_since(self._clock.monotonic())

    def stats(self) -> TelemetryStats:
        """Return what waits."""
        held = self._outbox
        drops = {"spool_full": held.dropped} if held.dropped else {}
        return TelemetryStats(outbox_records=held.records, outbox_batches=held.batches, drops=drops)

    def _make_later(self) -> None:
        self._later(self._rng.expovariate(self._per_s), self._make)

    def _make(self) -> None:
        if self._faults.over:  # the end: what was made shall arrive
            return
        self._make_later()
        running = self._answering()
        if running is None:
            return
        if self._faults.refuses_write():
            self._outbox.dropped += 1
            return
        self._outbox.made += 1
        record = Record(
            at=self._clock.now(),
            module=MODULE,
            bundle=running.bundle,
            model=running.model,
            version=running.version,
            latency_ms=self._rng.uniform(1.0, 30.0),
            outputs={"y": [round(self._rng.random(), 3) for _ in range(4)]},
            request=f"{self._device}-{self._outbox.made}",
        )
        self._outbox.spool.append(record)
        self._batcher.add(Sized(record, FRAME_BYTES), self._clock.monotonic())
        self._flush_later()

    def _flush_later(self) -> None:
        due_at = self._batcher.due_at
        if due_at is not None and self._flush is None:
            self._flush = self._later(due_at - self._clock.monotonic(), self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        self._outbox.take_over(self._batcher.peek())
        self._batcher.clear()
        self._send()

    def _send(self) -> None:
        if self._step is not None:
            self._step.cancel()
        now = self._clock.monotonic()
        if (again_at := self._sender.step(now)) is not None:
            self._step = self._later(again_at - now, self._send)
