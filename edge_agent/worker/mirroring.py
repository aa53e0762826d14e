"""Inputs for a candidate, from one order to mirror until the next.

shadow   answer goes out ──► queue, bounded ──► candidate is asked ──► compare ──► counts
canary   candidate is asked ──► answer goes out ──► queue ──► own model is asked ──► compare
              └─ no answer in time: the module's own worker answers

Whatever a candidate does, a client of the module has its answer; what is compared is so after that.
"""

import asyncio
import collections
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from edge_agent.mind import gate
from edge_agent.worker import protocol
from edge_agent.worker.line import Given, LineError, Lines
from edge_agent.worker.tally import Budget, Tally
from runtime.bundle.index import Check
from runtime.candidates import Counts, Mode
from runtime.errors import PackhorseError
from runtime.gateway.choice import sampled
from runtime.inference import agreement
from runtime.inference.tensors import Arrays

log = logging.getLogger(__name__)

QUEUE_MOST = 64
QUEUE_BYTES = 32 << 20
REST_S = 0.01
"""So long a copy waits, so that the answer that it is of has gone out."""
SHADOW_S = 10.0
CANARY_S = 2.0
"""How long the candidate may take; a client waits for the latter."""
SORE_S = 1.0
"""After no answer it is asked nothing for so long."""
TELL_S = 30.0


class Copy(NamedTuple):
    """One answer that was given, and what it was given for."""

    at: float
    inputs: Arrays
    outputs: Arrays
    taken_ms: float
    by_candidate: bool


class Mirroring:
    """Gives a share of the inputs to the candidate, and compares."""

    def __init__(
        self,
        order: protocol.Mirror,
        *,
        ask_own: Callable[[Arrays], tuple[Arrays, float]],
        tell: Callable[[Counts], None],
    ) -> None:
        """Begin. `ask_own` returns the own model's answer and its milliseconds, recording nothing.

        `tell` is called when the counts mean something else than before, and now and then.
        """
        self.candidate = candidate = order.candidate
        self._rules = Check(inputs="", rtol=order.rtol, atol=order.atol)
        self._ask_own, self._tell = ask_own, tell
        self._lines = Lines(Path(order.path), candidate.bundle)
        self._tally = Tally(order.counts)
        self._budget = Budget(candidate.cpu, time.monotonic())
        self._queue: collections.deque[Copy] = collections.deque()
        self._queued_bytes = 0
        self._news = threading.Condition()
        self._seen, self._stopped, self._sore_until = 0, False, 0.0
        self._told_at, self._told_requests = 0.0, order.counts.requests
        self._state = gate.judge(candidate, order.counts).state
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Drop what is queued, and count nothing more. The thread ends by itself."""
        with self._news:
            self._stopped = True
            self._queue.clear()
            self._news.notify()

    def offer(self, inputs: Arrays, outputs: Arrays, taken_ms: float) -> None:
        """Queue a copy of what the own model has answered, if it is its turn; never waits."""
        if self.candidate.mode is Mode.SHADOW and self._is_its_turn():
            self._put(Copy(time.monotonic(), inputs, outputs, taken_ms, by_candidate=False))

    async def serve(
        self, inputs: Arrays, wanted: Sequence[str] | None, deadline: float | None
    ) -> Given | None:
        """Return the candidate's answer to a request; None: the own model shall answer."""
        if self.candidate.mode is not Mode.CANARY or not self._is_its_turn():
            return None
        timeout_s = CANARY_S
        if deadline is not None:
            timeout_s = min(timeout_s, (deadline - time.monotonic()) / 2)
        if timeout_s <= 0:
            return None
        try:
            given = await asyncio.to_thread(self._lines.ask, inputs, wanted, timeout_s)
        except LineError as error:
            self._failed(error)
            return None
        self._budget.used(given.cpu_s)
        self._tally.served()
        copy = Copy(time.monotonic(), inputs, given.outputs, given.taken_ms, by_candidate=True)
        self._put(copy)
        return given

    def _is_its_turn(self) -> bool:
        with self._news:
            self._seen += 1
            if not sampled(self._seen - 1, self.candidate.fraction):
                return False
            now = time.monotonic()
            able = now >= self._sore_until and self._budget.allows(now)
        if not able:
            self._tally.dropped()
        return able

    def _put(self, copy: Copy) -> None:
        size = _size(copy)
        with self._news:
            if self._stopped:
                return
            if len(self._queue) < QUEUE_MOST and self._queued_bytes + size <= QUEUE_BYTES:
                self._queue.append(copy)
                self._queued_bytes += size
                self._news.notify()
                return
        self._tally.dropped()

    def _next(self) -> Copy | None:
        """Return the oldest copy once it has rested; None: stopped."""
        with self._news:
            while not self._stopped:
                wait_s = self._queue[0].at + REST_S - time.monotonic() if self._queue else None
                if wait_s is not None and wait_s <= 0:
                    copy = self._queue.popleft()
                    self._queued_bytes -= _size(copy)
                    return copy
                self._news.wait(wait_s)
        return None

    def _run(self) -> None:
        try:
            while (copy := self._next()) is not None:
                self._compare(copy)
        except Exception:  # the outermost loop of this thread: inference goes on without it
            log.exception("mirror failed")
        self._lines.close()

    def _compare(self, copy: Copy) -> None:
        try:
            if copy.by_candidate:
                own, own_ms = self._ask_own(copy.inputs)
                its, its_ms = copy.outputs, copy.taken_ms
                own = {name: own[name] for name in its if name in own}
            else:
                given = self._lines.ask(copy.inputs, tuple(copy.outputs), SHADOW_S)
                self._budget.used(given.cpu_s)
                own, own_ms = copy.outputs, copy.taken_ms
                its, its_ms = given.outputs, given.taken_ms
        except LineError as error:
            self._failed(error)
            return
        except PackhorseError as error:
            log.info("not compared: the own model has no answer", extra={"reason": str(error)})
            return
        found = agreement.difference(self._rules, own, its)
        self._tally.compared(found, its_ms, own_ms)
        self._consider()

    def _failed(self, error: LineError) -> None:
        if self._stopped:
            return
        self._sore_until = time.monotonic() + SORE_S
        self._tally.failed(str(error))
        self._consider()

    def _consider(self) -> None:
        """Tell what was counted: if it is twice as much, it is time, or the gate has news."""
        counts, now = self._tally.counts(), time.monotonic()
        state = gate.judge(self.candidate, counts).state
        much = counts.requests >= 2 * self._told_requests
        news = state is not self._state or much or now - self._told_at >= TELL_S
        if self._stopped or not news:
            return
        self._state, self._told_at, self._told_requests = state, now, counts.requests
        self._tell(counts)


def _size(copy: Copy) -> int:
    arrays = (*copy.inputs.values(), *copy.outputs.values())
    return sum(array.nbytes for array in arrays)
