"""Requests wait here for their turn at a model, and its threads take them, alone or in batches.

    put ──► queue ──► decide (runtime.serving.batching) ──► perform, in one of the threads ──► reply
              │
              └──► dropped: cancelled, or its deadline has passed; it was never begun

Threads start when there is work for them, as many as the model may have callers, and wait then.
"""

import math
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

from runtime.errors import InvalidError, ModelError
from runtime.inference.tensors import Arrays
from runtime.serving import batching
from runtime.serving.batching import Rules
from runtime.serving.errors import (
    BusyError,
    DeadlineError,
    NotReadyError,
    UnknownModelError,
)
from runtime.serving.metrics import Tally
from runtime.serving.replies import Outcome, Reply

WEIGHT = 0.2
"""Of the newest run in the mean that tells how long the queue will take."""
LEAST_RETRY_S = 0.1


class Work:
    """One request on its way through a model."""

    __slots__ = (
        "arrived", "ask", "begun", "inputs", "key", "origin", "outcome", "reply", "rows", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        inputs: Arrays,
        wanted: Any,
        ask: Any,
        reply: Reply,
        *,
        origin: Any = None,
        rows: int = 1,
        key: Hashable = None,
    ) -> None:
        self.inputs, self.wanted, self.ask, self.origin = inputs, wanted, ask, origin
        self.reply, self.rows, self.key = reply, rows, key
        self.arrived = time.monotonic()
        self.begun = False
        self.outcome: Outcome | None = None

    @property
    def deadline(self) -> float:
        """When nobody waits any longer, on time.monotonic()."""
        deadline: float | None = self.ask.deadline
        return math.inf if deadline is None else deadline


class Turns:
    """A model's queue and threads."""

    def __init__(
        self,
        name: str,
        perform: Callable[[list[Work]], None],
        *,
        threads: int,
        queue_limit: int,
        rules: Rules | None,
        tally: Tally,
    ) -> None:
        """Have no threads yet.

        `perform` sets each work's outcome, and raises nothing. `tally` is written here alone.
        """
        self._name, self._perform, self._limit = name, perform, queue_limit
        self._rules, self._tally = rules, tally
        self._most_threads = threads
        self._news = threading.Condition()
        self._waiting: list[Work] = []
        self._running = self._idle = 0
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._mean_s = 0.0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Say whether nothing waits and nothing runs."""
        with self._news:
            return not self._waiting and not self._running

    def put(self, work: Work, *, bounded: bool = True) -> None:
        """Queue a request; raise BusyError if too many wait, NotReadyError after `close`."""
        with self._news:
            if self._closed:
                raise NotReadyError(f"{self._name} has been unloaded: ask again")
            if bounded and len(self._waiting) >= self._limit:
                raise BusyError(
                    f"{self._name}: {self._limit} requests wait already: try again later",
                    retry_after_s=self._patience_s(),
                )
            self._waiting.append(work)
            # One that was woken counts as idle until it runs: compare with all that wait.
            if len(self._waiting) > self._idle and len(self._threads) < self._most_threads:
                self._start_thread(work)
            else:
                self._news.notify()

    def drop(self, work: Work) -> None:
        """Forget a request that nobody waits for, if it has not begun."""
        with self._news:
            if not work.begun and work in self._waiting:
                self._waiting.remove(work)

    def close(self, timeout_s: float = 5.0) -> None:
        """End the threads once what waits is done, or leave them behind after `timeout_s`."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _start_thread(self, work: Work) -> None:
        name = f"model-{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no more threads
            if not self._threads:
                self._waiting.remove(work)
                raise BusyError(f"{self._name}: no thread can be started: {error}") from error
            return
        self._threads.append(thread)

    def _work(self) -> None:
        while works := self._next():
            started = time.monotonic()
            self._perform(works)
            self._finish(works, started, time.monotonic() - started)

    def _next(self) -> list[Work]:
        """Return what runs next, once there is something; nothing at the end."""
        with self._news:
            while True:
                now = time.monotonic()
                self._drop_expired(now)
                choice = self._decide(now)
                if isinstance(choice, batching.Run):
                    return self._take(choice.places)
                if self._closed and not self._waiting:
                    return []
                self._idle += 1
                self._news.wait(None if choice.until == math.inf else choice.until - now)
                self._idle -= 1

    def _decide(self, now: float) -> batching.Run | batching.Wait:
        if not self._waiting:
            return batching.Wait(math.inf)
        if self._rules is None:
            return _FIRST
        rules = self._rules._replace(max_delay_s=0.0) if self._closed else self._rules
        queue = [
            batching.Waiting(work.arrived, work.rows, work.key, self._latest(work))
            for work in self._waiting
        ]
        return batching.decide(now, queue, rules)

    def _latest(self, work: Work) -> float:
        """Return until when a request may be held back: the rest of its time is for its run."""
        half = (work.arrived + work.deadline) / 2
        return min(half, work.deadline - 2 * self._mean_s)

    def _take(self, places: tuple[int, ...]) -> list[Work]:
        taken = [self._waiting[place] for place in places]
        for place in reversed(places):
            del self._waiting[place]
        for work in taken:
            work.begun = True
        self._running += len(taken)
        return taken

    def _drop_expired(self, now: float) -> None:
        """Never begin what nobody waits for."""
        live = [work for work in self._waiting if not work.reply.gone and work.deadline > now]
        if len(live) == len(self._waiting):
            return
        for work in self._waiting:
            if not work.reply.gone and work.deadline <= now:
                work.reply.settle(DeadlineError(f"{self._name}: the request waited too long"))
                work.reply.flush()
        self._waiting = live

    def _finish(self, works: list[Work], started: float, taken_s: float) -> None:
        with self._news:
            self._running -= len(works)
            self._mean_s += WEIGHT * (taken_s - self._mean_s)
            tally = self._tally
            tally.run.observe(taken_s)
            tally.batch.observe(len(works))
            for work in works:
                tally.queue.observe(started - work.arrived)
                if work.reply.gone:
                    late = work.deadline <= time.monotonic()
                    tally.failed("deadline" if late else "cancelled")
                elif isinstance(work.outcome, BaseException):
                    tally.failed(kind_of(work.outcome))
                else:
                    tally.requests += 1
        for work in works:
            if work.outcome is not None:
                work.reply.settle(work.outcome)
        for work in works:
            work.reply.flush()

    def _patience_s(self) -> float:
        """Return how long what waits will take."""
        return max(LEAST_RETRY_S, len(self._waiting) * self._mean_s / self._most_threads)


_FIRST = batching.Run((0,))


def kind_of(error: BaseException) -> str:
    """Return the kind of an error for the metrics: one of a fixed few."""
    return KINDS.get(type(error), "other")


REFUSALS = (InvalidError, BusyError, DeadlineError, NotReadyError)
"""What a request can be refused with before it waits."""
KINDS: dict[type[BaseException], str] = {
    InvalidError: "invalid",
    ModelError: "model",
    BusyError: "busy",
    DeadlineError: "deadline",
    NotReadyError: "not-ready",
    UnknownModelError: "unknown",
}
