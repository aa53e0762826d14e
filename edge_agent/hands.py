"""Does what the mind (states.py) asks for. All methods are the owner thread's, and quick.

What takes long is handed on: bundles to the porter, processes to their minders. An effect that
answers does so by an event.
"""

import logging
import random
from collections.abc import Callable
from pathlib import Path

from edge_agent.bundles.porter import Porter
from edge_agent.bundles.releases import Releases
from edge_agent.mind import effects, events, trialnames
from edge_agent.mind.effects import Effect
from edge_agent.mind.events import SOURCES, TimerKey
from edge_agent.telemetry.path import TelemetryPath
from edge_agent.timers import Timers
from edge_agent.worker import protocol
from edge_agent.workers.crews import Crews
from runtime.bundle.index import Check, Index
from runtime.clock import Clock
from runtime.digests import Digest
from runtime.errors import InvalidError, PackhorseError

log = logging.getLogger(__name__)

DRAIN_S = 3.0
DRAIN_AGAIN_S = 1.0


def _require_model(index: Index) -> None:
    """Raise InvalidError unless a candidate's bundle can be compared with a model."""
    if index.container is not None:
        fix = "it is a container, which answers no inference: name a model"
        raise InvalidError("candidate", index.name, fix)


class Hands:
    """Everything that can be done to this device."""

    def __init__(
        self,
        *,
        releases: Releases,
        porter: Porter,
        workers: Crews,
        telemetry: TelemetryPath,
        timers: Timers,
        clock: Clock,
        keep: Callable[[], set[Digest]],
        put: Callable[[events.Event], None],
    ) -> None:
        """`keep` returns the bundles that must not be swept away now."""
        self._releases, self._porter, self._workers = releases, porter, workers
        self._telemetry, self._timers, self._clock = telemetry, timers, clock
        self._keep, self._put = keep, put
        self._unstarted: set[int] = set()
        """Slots whose sources are to be started as soon as their module's spool is drained."""
        self._random = random.Random()  # noqa: S311 - spreads load, guards nothing

    def do(self, effect: Effect) -> None:
        """Do one effect, but Report, which is the agent's own."""
        match effect:
            case effects.Fetch() | effects.Verify():
                self._porter.add(effect)
            case effects.CancelJob():
                self._porter.cancel(effect.job)
            case effects.CollectGarbage():
                self._porter.collect(self._keep())
            case effects.SetTimer():
                self._set_timer(effect)
            case effects.Forget():
                self._forget(effect.module)
            case effects.ForgetOthers():
                self._workers.close_others(effect.modules)
            case effects.StartWorker():
                self._start_worker(effect)
            case effects.WorkerEffect():
                self._tell_worker(effect)

    def again(self, key: TimerKey) -> None:
        """Try to start sources again; they may have been stopped, or the worker, meanwhile."""
        if key.slot in self._unstarted:
            self._start_sources(key.module, key.slot)

    def _tell_worker(self, effect: effects.WorkerEffect) -> None:
        slot = effect.slot
        match effect:
            case effects.RunCheck():
                self._workers.send(slot, protocol.RunCheck())
            case effects.Accept():
                self._workers.send(slot, protocol.Accept())
            case effects.Hold():
                self._workers.send(slot, protocol.Hold())
            case effects.Mirror():
                self._mirror(effect)
            case effects.StopMirror():
                self._workers.send(slot, protocol.StopMirror())
            case effects.StartSources():
                self._unstarted.add(slot)
                self._start_sources(effect.module, slot)
            case effects.StopSources():
                self._unstarted.discard(slot)
                self._workers.send(slot, protocol.StopSources())
            case effects.StopWorker():
                self._unstarted.discard(slot)
                self._workers.stop(slot, kill=effect.kill)

    def _mirror(self, effect: effects.Mirror) -> None:
        try:
            check = self._releases.index(effect.candidate.bundle).check
        except InvalidError as error:
            # Its worker will say the same when it starts again.
            log.warning("not mirrored", extra={"why": str(error)})
            return
        self._workers.mirror(effect.slot, effect, check or Check(inputs=""))

    def _start_worker(self, effect: effects.StartWorker) -> None:
        spec = effect.spec
        try:
            index = self._releases.index(spec.bundle)
            if trialnames.is_trial(spec.name):
                _require_model(index)
        except InvalidError as error:
            self._put(events.WorkerFailed(effect.module, effect.slot, str(error)))
            self._put(events.WorkerExited(effect.module, effect.slot, str(error)))
            return
        self._workers.start(effect.slot, spec, self._releases.directory(spec.bundle), index)

    def _start_sources(self, module: str, slot: int) -> None:
        """Hand the sources over with the positions behind the last record that was kept."""
        try:
            self._telemetry.drain(module, DRAIN_S)
            positions = self._telemetry.positions(module)
        except PackhorseError as error:
            log.warning("sources wait", extra={"module_name": module, "reason": str(error)})
            self._timers.set(
                TimerKey(module, SOURCES, slot), self._clock.monotonic() + DRAIN_AGAIN_S
            )
            return
        self._unstarted.discard(slot)
        self._workers.send(slot, protocol.StartSources(positions))

    def _set_timer(self, effect: effects.SetTimer) -> None:
        delay_s = effect.delay_s
        if effect.jitter:
            delay_s = self._random.uniform(effect.least_s, delay_s)
        self._timers.set(effect.key, self._clock.monotonic() + delay_s)

    def _forget(self, module: str) -> None:
        """Remove what is left of a module; records that cannot be taken now stay for later."""
        self._workers.close(module)
        spool: Path = self._workers.spool(module)
        try:
            self._telemetry.drain(module, DRAIN_S)
            spool.rmdir()
        except (PackhorseError, OSError) as error:
            log.info("spool stays", extra={"module_name": module, "reason": str(error)})
