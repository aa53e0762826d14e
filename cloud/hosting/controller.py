"""Takes care of all services: which one is looked at when.

    run       one thread of the registry: sees what changed in the database, and who is due
    workers   a few threads that do passes (cloud.hosting.reconciler), one service at a time each
    watchers  a thread for each place: what the target says changed is due at once
    builders  see cloud.hosting.builds

Who is slow, or cannot be reached, holds up nobody else as long as there are workers; it is tried
again after a full-jitter wait.
"""

import logging
import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy.exc import OperationalError
from sqlmodel import col, select

from cloud import tables
from cloud.hosting.board import PlaceView
from cloud.hosting.builds import Builds
from cloud.hosting.errors import TargetError
from cloud.hosting.opening import Targets
from cloud.hosting.reconciler import Reconciler
from cloud.hosting.targets import Place
from cloud.hosting.watching import Watchers
from cloud.images.maker import ImageMaker
from cloud.registry.serving import rows
from cloud.services import Change, Services
from runtime.errors import PackhorseError
from runtime.retry import Backoff

log = logging.getLogger(__name__)

WORKERS = 4
LOOK_S = 5.0
"""A change that nobody told of is found after this long."""
STRAYS_S = 60.0
FIRST_PAUSE_S, MOST_PAUSE_S = 1.0, 60.0
_GATHER_S = 0.05
_TROUBLE_S = 5.0

Signature = tuple[int, int, float | None]


@dataclass
class _Turn:
    """When a service is looked at."""

    signature: Signature
    place: Place
    due: float = 0.0
    busy: bool = False
    again: bool = False
    """Something changed while it was busy."""
    backoff: Backoff = field(default_factory=lambda: Backoff(FIRST_PAUSE_S, MOST_PAUSE_S))


class Controller:
    """Takes care of services until told to stop; any thread may wake it."""

    def __init__(self, services: Services, targets: Targets, maker: ImageMaker) -> None:
        self._services, self._targets, self._clock = services, targets, services.clock
        self.builds = Builds(maker, services.clock, self.wake_all)
        self.reconciler = Reconciler(services, targets, self.builds)
        self._watchers = Watchers(targets, self.nudge)
        self._work = threading.Condition()
        self._woken = True
        self._turns: dict[str, _Turn] = {}
        self._strays_at: dict[Place, float] = {}
        self._queue: queue.Queue[str | Place | None] = queue.Queue()

    def wake(self) -> None:
        """Tell that the database may say something new."""
        with self._work:
            self._woken = True
            self._work.notify()

    def wake_all(self) -> None:
        """Have every service looked at that waits for something: a build has ended."""
        with self._work:
            for turn in self._turns.values():
                self._make_due(turn)
            self._woken = True
            self._work.notify()

    def nudge(self, name: str) -> None:
        """Tell that something of a service changed at its target."""
        with self._work:
            turn = self._turns.get(name)
            if turn is not None:
                self._make_due(turn)
                self._woken = True
                self._work.notify()

    def run(self, stopping: threading.Event) -> None:
        """Take care of services until `stopping`, then call `wake`: it may be waiting."""
        self._services.notifier.subscribe(Change.SERVICES, self.wake)
        self.builds.start()
        for number in range(WORKERS):
            # Daemons: a target that takes its time does not hold up the end of the process.
            threading.Thread(target=self._do_all, name=f"service-{number}", daemon=True).start()
        try:
            wait_s = 0.0
            while not stopping.is_set():
                self._wait(wait_s)
                stopping.wait(_GATHER_S)
                wait_s = self._look()
        finally:
            self._watchers.stop()
            for _ in range(WORKERS):
                self._queue.put(None)

    def _wait(self, wait_s: float) -> None:
        with self._work:
            self._work.wait_for(lambda: self._woken, wait_s)
            self._woken = False

    def _look(self) -> float:
        """Queue who is due; return after how many seconds to look again."""
        try:
            found = self._read()
        except OperationalError as error:
            log.warning("services cannot be read", extra={"why": str(error.orig)})
            return _TROUBLE_S
        self._watchers.watch(place for _signature, place in found.values())
        now = self._clock.monotonic()
        self._queue_strays({place for _signature, place in found.values()}, now)
        with self._work:
            for name in self._turns.keys() - found.keys():
                if not self._turns[name].busy:
                    del self._turns[name]
            for name, (signature, place) in found.items():
                turn = self._turns.setdefault(name, _Turn(signature, place))
                if turn.signature != signature:
                    turn.signature, turn.place = signature, place
                    self._make_due(turn)
            return min([LOOK_S, *self._queue_due(now)])

    def _read(self) -> dict[str, tuple[Signature, Place]]:
        row = tables.Service
        query = select(row).where(col(row.removed_at).is_(None))
        with self._services.reading() as session:
            return {
                each.name: ((each.generation, each.revision, each.deleted_at), rows.place(each))
                for each in session.exec(query)
            }

    def _queue_due(self, now: float) -> Iterable[float]:
        for name, turn in self._turns.items():
            if turn.busy:
                continue
            if turn.due <= now:
                turn.busy = True
                self._queue.put(name)
            else:
                yield turn.due - now

    def _queue_strays(self, places: Iterable[Place], now: float) -> None:
        for place in places:
            if self._strays_at.get(place, float("-inf")) + STRAYS_S <= now:
                self._strays_at[place] = now
                self._queue.put(place)

    def _make_due(self, turn: _Turn) -> None:
        turn.due, turn.again = 0.0, turn.busy

    def _do_all(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, Place):
                self._find_strays(item)
            else:
                self._do(item)

    def _do(self, name: str) -> None:
        """Do one pass, and note when the next is due."""
        wait_s = self._pass(name)
        with self._work:
            turn = self._turns.get(name)
            if turn is None:
                return
            turn.busy = False
            turn.due = 0.0 if turn.again else self._clock.monotonic() + wait_s
            turn.again = False
            self._woken = True
            self._work.notify()

    def _pass(self, name: str) -> float:
        turn, board = self._turns[name], self._services.board
        try:
            wait_s = self.reconciler.reconcile(name)
        except TargetError as error:
            known = board.view(name).trouble
            board.fail(name, str(error), unreachable=True)
            if known != str(error):
                log.warning("target fails", extra={"service": name, "why": str(error)})
            self._decide_blindly(name)
            return turn.backoff.next()
        except (PackhorseError, OperationalError) as error:
            board.fail(name, str(error), unreachable=False)
            log.warning("service not looked after", extra={"service": name, "why": str(error)})
            return turn.backoff.next()
        except Exception as error:
            board.fail(name, f"a bug: {type(error).__name__}", unreachable=False)
            log.exception("service not looked after", extra={"service": name})
            return MOST_PAUSE_S
        turn.backoff.reset()
        return LOOK_S if wait_s is None else wait_s

    def _decide_blindly(self, name: str) -> None:
        try:
            self.reconciler.blind(name)
        except (PackhorseError, OperationalError) as error:
            log.warning("service not looked after", extra={"service": name, "why": str(error)})

    def _find_strays(self, place: Place) -> None:
        """Note which services are at a place that the registry does not know. They are left."""
        now = self._clock.now()
        try:
            there = set(self._targets.of(place).services())
            with self._services.reading() as session:
                ours = {row.name for row in rows.there(session)}
        except (PackhorseError, OperationalError) as error:
            view = PlaceView(now, trouble=str(error))
        except Exception:
            log.exception("place cannot be looked through", extra={"kind": place.kind})
            view = PlaceView(now, trouble="a bug: the registry's log says more")
        else:
            view = PlaceView(now, strays=tuple(sorted(there - ours)))
        known = self._services.board.places().get(place, PlaceView(0.0)).strays
        if set(view.strays) - set(known):
            log.warning("services of others", extra={"kind": place.kind, "names": view.strays})
        self._services.board.put_place(place, view)
