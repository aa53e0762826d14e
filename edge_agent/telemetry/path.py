"""The way of every record through the agent: spool -> outbox -> link.

    worker ──append──► spool ──intake thread──► outbox ──sender thread──► broker ──► registry
                                                  ▲                                     │
                                                  └───────── Ack: delete ◄──────────────┘

Two threads, so that a dead link never keeps records from the disk, nor a full disk the link from
draining. Both sleep until something happens: an idle device neither wakes up nor writes. Methods
may be called from any thread; none but `drain` and `stop` waits for more than a commit.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent import pace
from edge_agent.pace import Pace
from edge_agent.telemetry import batcher, sender
from edge_agent.telemetry.batcher import Batcher
from edge_agent.telemetry.intake import SpoolIntake
from edge_agent.telemetry.loops import IntakeLoop, SenderLoop, Troubles
from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.sender import Sender
from runtime.batches import Record
from runtime.clock import Clock, SystemClock
from runtime.errors import PackhorseError
from runtime.messages import Ack
from runtime.topics import DeviceId

BATCH_BURSTS = 8
"""Below a cap a batch is no larger than this many bursts of it, before it is packed: 2 s."""


@dataclass(frozen=True)
class TelemetrySettings:
    """How records travel; the defaults suit a device on a mobile link."""

    flush_records: int = batcher.FLUSH_RECORDS
    flush_bytes: int = batcher.FLUSH_BYTES
    flush_s: float = batcher.FLUSH_S
    window: int = sender.WINDOW
    resend_s: float = sender.RESEND_S
    stall_s: float = sender.STALL_S
    upload_kbps: int = 0
    """0: as fast as it goes."""


@dataclass(frozen=True)
class TelemetryStats:
    """What waits on the device, what was dropped, and what a person should look at."""

    outbox_records: int = 0
    outbox_batches: int = 0
    outbox_bytes: int = 0
    """On the disk, write-ahead log included."""
    oldest_s: float = 0.0
    """Age of the oldest batch that waits, by the device's wall clock."""
    dead_batches: int = 0
    torn_frames: int = 0
    drops: Mapping[str, int] = field(default_factory=dict)
    """Records not kept, by reason, since the outbox was made."""
    troubles: tuple[str, ...] = ()


class TelemetryPath:
    """Owns the intake and the sender, each with a thread of its own."""

    def __init__(
        self,
        outbox: Outbox,
        spool_root: Path,
        publish: Callable[[bytes], None],
        *,
        device: DeviceId,
        clock: Clock | None = None,
        settings: TelemetrySettings | None = None,
    ) -> None:
        """Spools are the directories below `spool_root`, each named after its module.

        `publish` sends one payload on the device's telemetry topic at QoS 1: it returns when the
        broker has it and raises LinkError otherwise. The outbox is closed by its owner.
        """
        chosen = settings or TelemetrySettings()
        self._clock = clock or SystemClock()
        self._outbox = outbox
        limit = pace.of_kbps(chosen.upload_kbps, clock=self._clock.monotonic)
        waiting = _batcher(chosen, limit)
        self._intake = SpoolIntake(outbox, spool_root, waiting, self._clock.now)
        self._sender = Sender(
            outbox,
            device,
            publish,
            self._clock.now,
            window=chosen.window,
            resend_s=chosen.resend_s,
            stall_s=chosen.stall_s,
            pace=limit,
        )
        self._troubles = Troubles()
        self._sending = SenderLoop(self._sender, self._clock, self._troubles)
        self._taking = IntakeLoop(
            self._intake, self._clock, self._troubles, lambda: self._sending.tell(_look)
        )

    def start(self) -> None:
        """Start both threads, and take in what lies in the spools from before."""
        for module in self._intake.modules():
            self.spooled(module)
        self._sending.thread.start()
        self._taking.thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Commit what was read, and end both threads; records not yet sent wait on the disk."""
        deadline = self._clock.monotonic() + timeout_s
        for loop in (self._taking, self._sending):
            loop.stop()
        for loop in (self._taking, self._sending):
            if loop.thread.is_alive():
                loop.thread.join(max(0.0, deadline - self._clock.monotonic()))

    def spooled(self, module: str, dropped: int = 0) -> None:
        """Take note that a worker of this module appended records, or had no room for so many."""
        self._taking.want(module, dropped)

    def drain(self, module: str, timeout_s: float = 10.0) -> None:
        """Return when all that lay in a module's spool is in the outbox.

        After that, `positions` says where the module's sources go on. Raises SpaceError or
        OutboxError if the outbox cannot take it now, or did not within the time.
        """
        self._taking.drain(module, timeout_s)

    def positions(self, module: str) -> dict[str, str]:
        """Return where each source of a module goes on, as far as records are in the outbox."""
        return self._outbox.positions(module)

    def newest(self, module: str) -> Record | None:
        """Return the last record of a module since the agent started."""
        return self._intake.newest.get(module)

    def on_ack(self, ack: Ack) -> None:
        """Take note of what the registry has."""
        self._sending.tell(lambda at: self._sender.acknowledge(ack, at))

    def on_connected(self) -> None:
        """Take note that the link stands: send, also what was under way before."""
        self._sending.tell(self._sender.connected)

    def on_disconnected(self) -> None:
        """Take note that the link is down."""
        self._sending.tell(lambda _at: self._sender.disconnected())

    def stalled_since(self) -> float | None:
        """Return since when (monotonic clock) the registry is silent though the link stands.

        None unless that has been so for `stall_s`, with batches waiting: time for a new link.
        """
        return self._sender.stalled_since(self._clock.monotonic())

    def stats(self) -> TelemetryStats:
        """Return how the path is. Writes nothing."""
        troubles = [*self._troubles.lines()]
        troubles += [f"outbox: a damaged file lies in {path}" for path in self._outbox.set_aside]
        try:
            seen, drops = self._intake.stats()
        except PackhorseError as error:
            return TelemetryStats(drops=self._intake.drops(), troubles=(*troubles, str(error)))
        age_s = 0.0 if seen.oldest_at is None else max(0.0, self._clock.now() - seen.oldest_at)
        return TelemetryStats(
            outbox_records=seen.records,
            outbox_batches=seen.batches,
            outbox_bytes=seen.disk_bytes,
            oldest_s=age_s,
            dead_batches=seen.dead,
            torn_frames=self._intake.torn,
            drops=Counter(seen.drops) + Counter(drops),
            troubles=tuple(troubles),
        )


def _batcher(chosen: TelemetrySettings, limit: Pace | None) -> Batcher:
    # What steers the device shares the link: it shall not wait long behind one batch.
    most = limit.most * BATCH_BURSTS if limit else chosen.flush_bytes
    return Batcher(
        records=chosen.flush_records,
        size_bytes=min(chosen.flush_bytes, most),
        flush_s=chosen.flush_s,
    )


def _look(_at: float) -> None:
    """Tell the sender nothing but to look."""
