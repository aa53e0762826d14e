"""From the outbox to the registry, until the registry says that it has it.

A window of batches is under way. The broker's acknowledgement only means that the broker has a
batch; it stays in the outbox until the registry's own, which is sent after its commit. What is not
acknowledged in time, or was under way when the connection broke, is sent again: the registry keeps
each number once.

A batch on which connections die (some broker or middlebox refuses its bytes) must not stop the
others. At the first failure it is suspected, and from then on batches go one at a time; its turn
comes again when another got through, for only then a further failure counts: a bad link condemns
nobody. After STRIKES it is set aside.
"""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_agent.pace import Pace
from edge_agent.telemetry.outbox import Waiting
from edge_agent.telemetry.turnstile import Turnstile
from runtime import batches
from runtime.errors import LinkError
from runtime.messages import Ack
from runtime.retry import Backoff
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

WINDOW = 8
RESEND_S = 20.0
STALL_S = 120.0
STRIKES = 5


class Outbox(Protocol):
    """Where batches wait; outbox.Outbox on a device."""

    @property
    def epoch(self) -> str:
        """The word within which batches are numbered."""
        ...

    def pending(self, limit: int, *, skip: Sequence[int] = ()) -> list[Waiting]:
        """Return at most `limit` waiting batches, most important and oldest first."""
        ...

    def waiting(self, sequence: int) -> Waiting | None:
        """Return one batch, if it still waits."""
        ...

    def delete(self, sequences: Sequence[int], *, drop: str | None = None) -> int:
        """Forget batches, counting their records under `drop` if given; return how many."""
        ...

    def bury(self, sequence: int, reason: str) -> None:
        """Set one batch aside so that the others go on."""
        ...


class Sender:
    """What is under way; to be used by one thread. Times are on one clock that never jumps back.

    `step` and `acknowledge` raise OutboxError or SpaceError if the outbox cannot be used.
    """

    def __init__(
        self,
        outbox: Outbox,
        device: DeviceId,
        publish: Callable[[bytes], None],
        now: Callable[[], float],
        *,
        window: int = WINDOW,
        resend_s: float = RESEND_S,
        stall_s: float = STALL_S,
        backoff: Backoff | None = None,
        pace: Pace | None = None,
    ) -> None:
        """`publish` returns when the broker has the payload, else raises LinkError.

        `pace`, on the clock of `step`, says how fast batches may go.
        """
        self._outbox = outbox
        self._device = device
        self._publish = publish
        self._now = now
        self._window = window
        self._resend_s = resend_s
        self._stall_s = stall_s
        self._backoff = backoff or Backoff(1.0, 60.0)
        self._epoch = ""
        self._under_way: dict[int, float] = {}
        """Sequence to when it is sent again."""
        self._strikes: dict[int, int] = {}
        self._cleared: set[int] = set()
        """Suspects since whose last strike another batch got through."""
        self._connected = False
        self._proven = False
        """The connection stood when the last publish began, as far as can be known."""
        self._blocked_until = -math.inf
        self._quiet_since: float | None = None
        self._turnstile = Turnstile(pace)

    def connected(self, at: float) -> None:
        """Take note of a new connection: all that was under way is sent again."""
        self._connected = self._proven = True
        self._under_way.clear()
        self._blocked_until = -math.inf
        self._quiet_since = at

    def disconnected(self) -> None:
        """Take note that the connection is gone: wait for the next."""
        self._connected = False

    def acknowledge(self, ack: Ack, at: float) -> None:
        """Forget what the registry has, and what it cannot read."""
        if ack.epoch != self._outbox.epoch:
            return
        self._outbox.delete(ack.stored)
        if self._outbox.delete(ack.rejected, drop="rejected"):
            log.error("batches rejected by the registry", extra={"sequences": ack.rejected})
        for sequence in (*ack.stored, *ack.rejected):
            self._under_way.pop(sequence, None)
            self._acquit(sequence)
        self._quiet_since = at
        self._backoff.reset()

    def step(self, at: float) -> float | None:
        """Send what there is room for; return when to step again, None to wait for news."""
        if not self._connected:
            return None
        if at >= self._blocked_until:
            self._give_up_waiting(at)
            self._fill(at)
        times = [*self._under_way.values()]
        if self._blocked_until > at:
            times.append(self._blocked_until)
        if (opens_at := self._turnstile.opens_at) is not None and opens_at > at:
            times.append(opens_at)
        return min(times, default=None)

    def stalled_since(self, at: float) -> float | None:
        """Return since when nothing was acknowledged, if that is too long: connected, with work."""
        since = self._quiet_since
        if not self._connected or since is None or at - since <= self._stall_s:
            return None
        return since

    def _give_up_waiting(self, at: float) -> None:
        late = [sequence for sequence, again_at in self._under_way.items() if again_at <= at]
        if late:
            log.info("no acknowledgement in time, sending again", extra={"batches": len(late)})
            self._blocked_until = at + self._backoff.next()
        for sequence in late:
            del self._under_way[sequence]

    def _fill(self, at: float) -> None:
        while at >= self._blocked_until:
            window = 1 if self._strikes else self._window
            room = window - len(self._under_way)
            if room <= 0:
                return
            waiting = self._next(room)
            if not waiting:
                if not self._under_way:
                    self._quiet_since = None
                return
            if self._quiet_since is None:
                self._quiet_since = at
            for batch in waiting:
                if not self._turnstile.lets(batch.sequence, len(batch.body), at):
                    if not self._under_way:
                        self._quiet_since = None  # it is our own cap that keeps us quiet
                    return
                if not self._send(batch, at):
                    return

    def _next(self, room: int) -> Sequence[Waiting]:
        if self._outbox.epoch != self._epoch:
            self._epoch = self._outbox.epoch
            self._under_way.clear()
            self._strikes.clear()
            self._cleared.clear()
        # A suspect's turn comes when another batch has shown that the link works.
        for sequence in sorted(self._cleared - self._under_way.keys()):
            suspect = self._outbox.waiting(sequence)
            if suspect is not None:
                return [suspect]
            self._acquit(sequence)
        under_way = list(self._under_way)
        others = self._outbox.pending(room, skip=[*under_way, *self._strikes])
        if others or not self._strikes:
            return others
        return self._outbox.pending(room, skip=under_way)

    def _acquit(self, sequence: int) -> None:
        self._strikes.pop(sequence, None)
        self._cleared.discard(sequence)

    def _send(self, batch: Waiting, at: float) -> bool:
        header = batches.Header(self._device, batch.epoch, batch.sequence, self._now())
        try:
            self._publish(batches.wrap(header, batch.body))
        except LinkError as error:
            log.info("batch not sent", extra={"sequence": batch.sequence, "reason": str(error)})
            self._blocked_until = at + self._backoff.next()
            self._strike(batch.sequence)
            self._proven = False
            return False
        self._under_way[batch.sequence] = at + self._resend_s
        self._acquit(batch.sequence)
        self._cleared = set(self._strikes)
        self._proven = True
        return True

    def _strike(self, sequence: int) -> None:
        if not self._proven or (sequence in self._strikes and sequence not in self._cleared):
            return
        self._cleared.discard(sequence)
        self._strikes[sequence] = self._strikes.get(sequence, 0) + 1
        if self._strikes[sequence] >= STRIKES:
            log.error("batch ends every connection, set aside", extra={"sequence": sequence})
            self._outbox.bury(sequence, "poison")
            self._acquit(sequence)
