"""One thread beside the containers of one slot: it does what the mind orders and tells how it goes.

    made ──► up ──► held ──► up          the goal; each turn brings the containers nearer to it
      └───────┴───────┴────► gone

It speaks to the mind as the minder of a worker process does: WorkerLoaded when all have been
started (or made, where the version before must stop first), WorkerChecked when all are good or one
has failed, WorkerAccepting, and at last WorkerExited. An engine that does not answer is nobody's
fault: what runs is left alone, and what does not yet run is tried again without counting.
"""

import contextlib
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from edge_agent.containers import judging
from edge_agent.containers.crew import Crew
from edge_agent.containers.door import EngineDoor
from edge_agent.containers.judging import Standing, Verdict
from edge_agent.containers.orders import End, Goal, Order, Told, is_failure, late
from edge_agent.containers.plan import Origin
from edge_agent.containers.voice import Voice
from edge_agent.containers.yard import Yard
from edge_agent.mind import events
from edge_agent.mind.turn import Limits
from edge_agent.workers.captured import CappedLog
from runtime.bundle.containers import Group
from runtime.containers.errors import EngineError, EngineUnreachableError
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from runtime.containers.engine import Engine

log = logging.getLogger(__name__)

BUSY_S = 0.2
LOOK_S = 2.0
HELD_S = 15.0
AWAY_S = 10.0
"""An engine that does not answer for so long ends a start, which is tried again later."""
CONFIRM_S = 1.0
"""A container that has ended may be the first sign of an engine that ends."""


class ContainerMinder:
    """Minds one start of a module's containers to its end."""

    def __init__(
        self,
        slot: int,
        origin: Origin,
        group: Group,
        *,
        yard: Yard,
        door: EngineDoor,
        told: Told,
        limits: Limits,
        printed: CappedLog,
    ) -> None:
        """Begin at once."""
        self.module, self.slot = origin.module, slot
        self.crew = Crew(origin, group)
        self._exclusive = group.start == "stop-then-start"
        self._goal = Goal.MADE if self._exclusive else Goal.UP
        self._yard, self._door = yard, door
        self._voice = Voice(told, origin.module, slot)
        self._limits, self._printed = limits, printed
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._resting_for: ContainerMinder | None = None
        self._loaded = self._accept = self._kill = False
        self.accepted = False
        """Whether it was told to serve, and does."""
        self._claims = False
        self._checks = 0
        self._failed = False
        self._failing_since: float | None = None
        self._since = time.monotonic()
        self._away_since: float | None = None
        yard.enter(self)
        self._thread = threading.Thread(target=self._run, name=f"containers-{slot}", daemon=True)
        self._thread.start()

    def order(self, order: Order) -> None:
        """Have something done; returns at once."""
        self._orders.put(order)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; return whether it has come."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def copy_log(self) -> None:
        """Bring the module's log up to date; may raise an EngineError."""
        with self._yard.turn(self.module):
            self._printed.append(self.crew.news(self._door.engine()))

    def comes_first(self, other: "ContainerMinder") -> bool:
        """Say whether `other` waits until this one has its containers."""
        waiting = not self.crew.enlisted and self._goal is not Goal.GONE
        return waiting and self.slot < other.slot

    def rest_for(self, other: "ContainerMinder", engine: "Engine") -> None:
        """Stop the containers until `other` has gone; the caller has the module's turn."""
        self._resting_for = other
        self.crew.rest(engine)
        if self.accepted:
            self.accepted = False
            self._voice.say(events.WorkerRests)

    def release(self, other: "ContainerMinder") -> None:
        """Go on, if the containers rest for this one, which has gone."""
        if self._resting_for is other:
            self._resting_for = None
            self.order(Order.WAKE)

    def _run(self) -> None:
        try:
            end = self._live()
        except Exception as error:  # the outermost loop: the mind waits for the last word
            log.exception("minder failed", extra={"module_name": self.module, "slot": self.slot})
            end = End(f"the containers cannot be minded: {error}")
        self._yard.leave(self)
        if end is not None:
            log.info("containers ended", extra={"module_name": self.module, "reason": end.text})
            self._voice.exited(end)

    def _live(self) -> End | None:
        wait_s = 0.0
        while (order := self._next(wait_s)) is not Order.LEAVE:
            if order is not None:
                self._obey(order)
            try:
                with self._yard.turn(self.module):
                    end = self._turn(self._door.engine())
                self._engine_answers()
            except EngineUnreachableError as error:
                end = self._engine_away(error)
            except (EngineError, InvalidError) as error:
                end = self._refused(error)
            if end is not None:
                return end
            wait_s = self._patience_s()
        return None

    def _next(self, wait_s: float) -> Order | None:
        try:
            return self._orders.get(timeout=wait_s) if wait_s else self._orders.get_nowait()
        except queue.Empty:
            return None

    def _obey(self, order: Order) -> None:
        match order:
            case Order.CHECK:
                self._checks += 1
                self._claim()
            case Order.ACCEPT:
                self._accept = True
                self._claim()
            case Order.HOLD:
                self._goal, self._accept, self.accepted = Goal.HELD, False, False
            case Order.STOP | Order.KILL:
                self._goal, self._kill = Goal.GONE, order is Order.KILL

    def _claim(self) -> None:
        """Have the containers up, and make others rest if there is no room beside them."""
        self._goal, self._resting_for, self._since = Goal.UP, None, time.monotonic()
        self._claims = self._exclusive

    def _patience_s(self) -> float:
        if self._away_since is not None:
            return LOOK_S
        if self._goal is Goal.HELD or (self._resting_for is not None and not self._checks):
            return HELD_S
        settled = self.accepted and not self._checks and self._failing_since is None
        return LOOK_S if settled or self._failed else BUSY_S

    def _turn(self, engine: "Engine") -> End | None:
        """Come nearer to the goal."""
        if self._goal is Goal.GONE:
            self.crew.dismiss(engine, kill=self._kill)
            return End("stopped")
        if not self.crew.enlisted:
            others = self._yard.others(self)
            if any(other.comes_first(self) for other in others):
                return None  # else what it is about to take over would be swept
            self.crew.enlist(engine, {other.crew.start for other in others})
        if self._checks and self._resting_for is not None and self._resting_for.accepted:
            self._claim()  # that one is up, and can rest now for this check
        if self._goal is Goal.MADE:
            self._tell_loaded()
        elif self._goal is Goal.HELD or self._resting_for is not None:
            self.crew.rest(engine)
        elif not self._failed:
            return self._go_up(engine)
        return None

    def _go_up(self, engine: "Engine") -> End | None:
        if self._claims:
            for other in self._yard.others(self):
                other.rest_for(self, engine)
            self._claims = False
        verdicts, now = self.crew.advance(engine, time.monotonic), time.monotonic()
        for name, verdict in verdicts.items():
            if verdict.standing is Standing.FAILED:
                return self._fail(engine, name, verdict)
        self._failing_since = None
        waiting = judging.waiting(verdicts.values())
        self._voice.waits(waiting, now)
        if len(verdicts) < self.crew.size:
            return self._start_slowly(engine, now, waiting)
        self._tell_loaded()
        if not waiting:
            self._answer_checks(ok=True, text="all containers are good")
        elif too_late := late("check", waiting, now - self._since, self._limits):
            self._answer_checks(ok=False, text=too_late)
        if self._accept and not self.accepted and all(one.serves for one in verdicts.values()):
            self.accepted = True
            self._voice.say(events.WorkerAccepting)
        return None

    def _start_slowly(self, engine: "Engine", now: float, waiting: str) -> End | None:
        """Go on waiting for those that others need, unless it takes too long."""
        text = late("start", waiting, now - self._since, self._limits)
        if self._loaded or not text:
            return None
        self._voice.failed(text)
        self.crew.dismiss(engine, kill=True)
        return End(text)

    def _fail(self, engine: "Engine", name: str, verdict: Verdict) -> End | None:
        """Tell what is wrong with one of them, as the mind wants to hear it at this point."""
        serves = self._accept or self.accepted
        if not serves and not self._checks:
            # The mind will have it checked or have it serve; then it is told.
            self._tell_loaded()
            return None
        if serves and not self._is_confirmed():
            return None
        text = self._obituary(engine, name, verdict)
        self._answer_checks(ok=False, text=text)
        if not serves:
            self._failed = True
            return None
        self.crew.dismiss(engine, kill=True)
        return End(text, final=verdict.final)

    def _is_confirmed(self) -> bool:
        """Say whether a failure was seen a while ago too: an engine that ends kills first."""
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        return now - self._failing_since >= CONFIRM_S

    def _obituary(self, engine: "Engine", name: str, verdict: Verdict) -> str:
        """Return why a container failed; what it said is kept in the module's log."""
        self._printed.append(self.crew.news(engine))
        last = self.crew.last_word(engine, name)
        return f"{verdict.text}; it said last: {last}" if last else verdict.text

    def _tell_loaded(self) -> None:
        if not self._loaded:
            self._loaded, self._since = True, time.monotonic()
            self._voice.say(events.WorkerLoaded)

    def _answer_checks(self, *, ok: bool, text: str) -> None:
        for _ in range(self._checks):
            self._voice.checked(ok=ok, text=text)
        self._checks = 0

    def _refused(self, error: EngineError | InvalidError) -> End:
        """Give up: the engine says no."""
        if is_failure(error, accepted=self.accepted):
            self._voice.failed(str(error))
        with contextlib.suppress(EngineError, InvalidError):  # swept by whoever comes next
            self.crew.dismiss(self._door.engine(), kill=True)
        return End(str(error))

    def _engine_away(self, error: EngineUnreachableError) -> End | None:
        self._door.drop()
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            log.warning("engine away", extra={"module_name": self.module, "reason": str(error)})
        self._voice.engine(str(error))
        rests = self._resting_for is not None or self._goal is Goal.HELD
        waits = self.accepted or rests or self._goal is Goal.GONE
        if waits or now - self._away_since < AWAY_S:
            return None
        return End(f"the container engine does not answer: {error}", blameless=True)

    def _engine_answers(self) -> None:
        if self._away_since is None:
            return
        self._away_since = self._failing_since = None
        self.crew.begin_anew()
        self._voice.engine("")
        log.info("engine is back", extra={"module_name": self.module})
