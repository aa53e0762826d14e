"""The two threads of the telemetry path: what wakes them, and what happens when a round fails.

A thread sleeps without a time limit until it is told something or something is due. A round that
fails is noted, logged when the trouble starts and when it ends, and tried again after a back-off.
"""

import functools
import logging
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_agent.telemetry.intake import SpoolIntake
from edge_agent.telemetry.outboxfile import OutboxError
from edge_agent.telemetry.sender import Sender
from runtime.clock import Clock
from runtime.errors import PackhorseError
from runtime.retry import Backoff

log = logging.getLogger(__name__)

PACE_S = 0.1
"""Spools are read at most this often, unless someone waits for it."""
RETRY_S = 30.0
"""How long at most until the outbox is tried again after it could not be used."""

_FLUSH = "outbox"


class Troubles:
    """What does not work at the moment, by part."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def lines(self) -> tuple[str, ...]:
        """Return one line for each trouble."""
        return tuple(f"{part}: {text}" for part, text in sorted(self._texts.copy().items()))

    def guard(self, part: str, act: Callable[[], None]) -> PackhorseError | None:
        """Do it; return what went wrong."""
        error: PackhorseError
        try:
            act()
        except PackhorseError as trouble:
            error = trouble
        except Exception as trouble:  # the outermost loop of both threads: log and back off
            log.exception("telemetry failed", extra={"part": part})
            error = OutboxError(f"{type(trouble).__name__}: {trouble}")
        else:
            if self._texts.pop(part, None) is not None:
                log.info("telemetry trouble over", extra={"part": part})
            return None
        if part not in self._texts:
            log.warning("telemetry trouble", extra={"part": part, "reason": str(error)})
        self._texts[part] = str(error)
        return error


@dataclass
class _Drain:
    """Somebody waits for a module's spool to be in the outbox."""

    module: str
    done: threading.Event = field(default_factory=threading.Event)
    error: PackhorseError | None = None


class IntakeLoop:
    """Runs the intake."""

    def __init__(
        self, intake: SpoolIntake, clock: Clock, troubles: Troubles, added: Callable[[], None]
    ) -> None:
        """`added` is called whenever the outbox has more to send."""
        self._intake = intake
        self._clock = clock
        self._troubles = troubles
        self._added = added
        self._wake = threading.Condition()
        self._stopping = False
        self._wanted: set[str] = set()
        self._drains: list[_Drain] = []
        self._dropped = 0
        self._not_before = -math.inf
        self._backoff = Backoff(1.0, RETRY_S)
        self.thread = threading.Thread(target=self._run, name="telemetry-intake", daemon=True)

    def want(self, module: str, dropped: int = 0) -> None:
        """Have a module's spool read soon, and records counted that had no room there."""
        with self._wake:
            self._wanted.add(module)
            self._dropped += dropped
            self._wake.notify_all()

    def drain(self, module: str, timeout_s: float) -> None:
        """Have a module's spool read and committed now; see `TelemetryPath.drain`."""
        waiting = _Drain(module)
        with self._wake:
            self._drains.append(waiting)
            self._wake.notify_all()
        if not waiting.done.wait(timeout_s):
            raise OutboxError(f"outbox: {module} was not taken in within {timeout_s} s: try again")
        if waiting.error is not None:
            raise waiting.error

    def stop(self) -> None:
        """End the thread after one more round."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()

    def _run(self) -> None:
        while True:
            modules, drains, stopping = self._await()
            before = self._intake.committed
            failed = self._round(modules, flush=bool(drains) or stopping)
            if self._intake.committed > before:
                self._added()
            for drain in drains:
                drain.error = failed.get(drain.module) or failed.get(_FLUSH)
                drain.done.set()
            if stopping:
                return
            self._not_before = self._clock.monotonic() + PACE_S
            if failed:
                self._not_before += self._backoff.next()
                with self._wake:
                    self._wanted.update(set(modules) & set(failed))
            else:
                self._backoff.reset()

    def _await(self) -> tuple[list[str], list[_Drain], bool]:
        """Sleep until there is something to do; return what to read, who waits, and the end."""
        with self._wake:
            while not (self._stopping or self._drains):
                now = self._clock.monotonic()
                due_at = now if self._wanted else self._intake.due_at
                if due_at is None:
                    self._wake.wait()
                elif max(due_at, self._not_before) > now:
                    self._wake.wait(max(due_at, self._not_before) - now)
                else:
                    break
            modules = {*self._wanted, *(drain.module for drain in self._drains)}
            drains, self._drains = self._drains, []
            self._wanted.clear()
            return sorted(modules), drains, self._stopping

    def _round(self, modules: list[str], *, flush: bool) -> dict[str, PackhorseError]:
        """Read the spools and commit if that is due; return what failed, by module."""
        failed: dict[str, PackhorseError] = {}
        with self._wake:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            self._intake.drop("spool_full", dropped)
        now = self._clock.monotonic()
        for module in modules:
            move = functools.partial(self._intake.move, module, now)
            if error := self._troubles.guard(f"spool of {module}", move):
                failed[module] = error
        due_at = self._intake.due_at
        due = flush or (due_at is not None and due_at <= now)
        if due and (error := self._troubles.guard(_FLUSH, self._intake.flush)):
            failed[_FLUSH] = error
        if failed:
            self._intake.secure()
        return failed


class SenderLoop:
    """Runs the sender."""

    def __init__(self, sender: Sender, clock: Clock, troubles: Troubles) -> None:
        self._sender = sender
        self._clock = clock
        self._troubles = troubles
        self._wake = threading.Condition()
        self._stopping = False
        self._news: deque[Callable[[float], None]] = deque()
        self._step_at: float | None = None
        self._backoff = Backoff(1.0, RETRY_S)
        self.thread = threading.Thread(target=self._run, name="telemetry-sender", daemon=True)

    def tell(self, news: Callable[[float], None]) -> None:
        """Have this called, with the time, by the sender's thread, which then takes a step."""
        with self._wake:
            self._news.append(news)
            self._wake.notify_all()

    def stop(self) -> None:
        """End the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()

    def _run(self) -> None:
        while self._await():
            if self._troubles.guard("sending", self._round):
                self._step_at = self._clock.monotonic() + self._backoff.next()
            else:
                self._backoff.reset()

    def _await(self) -> bool:
        """Sleep until there is something to do; return whether to go on at all."""
        with self._wake:
            while not (self._stopping or self._news):
                now = self._clock.monotonic()
                if self._step_at is None:
                    self._wake.wait()
                elif self._step_at > now:
                    self._wake.wait(self._step_at - now)
                else:
                    break
            return not self._stopping

    def _round(self) -> None:
        while self._news:
            news = self._news.popleft()
            news(self._clock.monotonic())
        self._step_at = self._sender.step(self._clock.monotonic())
