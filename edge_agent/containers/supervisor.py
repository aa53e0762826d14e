"""All containers of the agent, by slot. All methods are the owner thread's, and quick."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from edge_agent.containers import plan
from edge_agent.containers.door import EngineDoor
from edge_agent.containers.minder import ContainerMinder
from edge_agent.containers.orders import Order, Told
from edge_agent.containers.plan import Origin
from edge_agent.containers.remembered import RememberedModules
from edge_agent.containers.yard import Yard
from edge_agent.mind import events
from edge_agent.mind.events import Event
from edge_agent.mind.turn import Limits
from edge_agent.worker import protocol
from edge_agent.workers.captured import CappedLog
from runtime.bundle.containers import Group
from runtime.errors import PackhorseError
from runtime.messages import ModuleSpec
from runtime.retry import Backoff

log = logging.getLogger(__name__)

AGAIN_S, MOST_AGAIN_S = 1.0, 300.0
"""After how long, at first and at most, what could not be removed is tried again."""


class ContainerSupervisor:
    """Does for bundles of kind container what WorkerSupervisor does for models."""

    def __init__(
        self,
        data: Path,
        device: str,
        *,
        notes: Path,
        door: EngineDoor,
        limits: Limits,
        put: Callable[[Event], None],
        engine_trouble: Callable[[str], None],
    ) -> None:
        """Keep what containers said last in `data`/logs, notes in `notes`; tell `put` all."""
        self._data, self._device, self._door, self._limits = data, device, door, limits
        self._told = Told(put=put, engine=engine_trouble)
        self._yard, self._remembered = Yard(), RememberedModules(notes)
        self._minders: dict[int, ContainerMinder] = {}
        self._leaving = threading.Event()

    def start(self, slot: int, spec: ModuleSpec, group: Group) -> None:
        """Start containers, or take over those that an agent before started."""
        self._bury()
        self._minders[slot] = ContainerMinder(
            slot,
            Origin(self._device, spec.name, spec.bundle, f"{spec.model}:{spec.version}"),
            group,
            yard=self._yard,
            door=self._door,
            told=self._told,
            limits=self._limits,
            printed=CappedLog(self._data / "logs" / f"{spec.name}.log"),
        )
        self._remember(spec.name)
        log.info("containers started", extra={"module_name": spec.name, "slot": slot})

    def holds(self, slot: int) -> bool:
        """Say whether a slot is one of containers."""
        return slot in self._minders

    def modules(self) -> set[str]:
        """Return the modules that have containers, or had until a moment ago."""
        return {minder.module for minder in self._minders.values()}

    def copy_logs(self, module: str) -> None:
        """Bring a module's log up to date, from any thread; what cannot be read is left out."""
        for minder in list(self._minders.values()):
            if minder.module == module:
                with contextlib.suppress(PackhorseError):
                    minder.copy_log()

    def send(self, slot: int, message: protocol.ToWorker) -> None:
        """Tell a slot what a worker would be told; containers read no sources."""
        minder = self._minders[slot]
        match message:
            case protocol.RunCheck():
                minder.order(Order.CHECK)
            case protocol.Accept():
                minder.order(Order.ACCEPT)
            case protocol.Hold():
                minder.order(Order.HOLD)
                # The engine stops them when it can: nobody waits for that.
                self._told.put(events.WorkerHeld(minder.module, slot))
            case protocol.StopSources():
                self._told.put(events.SourcesStopped(minder.module, slot))

    def stop(self, slot: int, *, kill: bool) -> None:
        """Have a slot's containers stopped and removed."""
        self._minders[slot].order(Order.KILL if kill else Order.STOP)

    def forget_others(self, modules: Collection[str]) -> None:
        """Forget each module that an agent before had and that is none of these."""
        for module in sorted(self._remembered.names() - set(modules)):
            self.forget(module)

    def forget(self, module: str) -> None:
        """Have what is left of a module that is gone removed, but for volumes that are to be kept.

        Tried until the engine does it.
        """
        threading.Thread(
            target=self._sweep, args=(module,), name=f"sweep-{module}", daemon=True
        ).start()

    def _remember(self, module: str) -> None:
        """Note a module that is minded; without a note a kill may leave something, and no more."""
        with contextlib.suppress(OSError):
            self._remembered.add(module)

    def _sweep(self, module: str) -> None:
        backoff = Backoff(first_s=AGAIN_S, most_s=MOST_AGAIN_S)
        while not self._is_swept(module) and not self._leaving.wait(backoff.next()):
            pass

    def _is_swept(self, module: str) -> bool:
        labels = {plan.DEVICE: self._device, plan.MODULE: module}
        try:
            with self._yard.turn(module):
                if self._yard.minded(module):
                    return True  # it is wanted again
                engine = self._door.engine()
                for seen in engine.containers(labels):
                    engine.remove(seen.id)
                    log.info("container removed", extra={"container": seen.name})
                for network in engine.networks(labels):
                    engine.remove_network(network)
                for volume in engine.volumes({**labels, plan.KEEP: "no"}):
                    engine.remove_volume(volume)
                    log.info("volume removed", extra={"volume": volume})
        except PackhorseError as error:
            if error.retryable:
                self._door.drop()
            log.warning("not all removed yet", extra={"module_name": module, "reason": str(error)})
            return False
        with contextlib.suppress(OSError):  # it is looked at once more by the next agent
            self._remembered.drop(module)
        if self._yard.minded(module):
            self._remember(module)  # it is wanted again since a moment ago
        return True

    def leave(self, timeout_s: float) -> None:
        """Mind nothing any more: the agent ends, the containers run on."""
        self._leaving.set()
        deadline = time.monotonic() + timeout_s
        for minder in self._minders.values():
            minder.order(Order.LEAVE)
        for minder in self._minders.values():
            minder.join(max(0.0, deadline - time.monotonic()))
        self._minders.clear()
        self._door.close()

    def _bury(self) -> None:
        """Forget minders whose containers are gone."""
        ended = [slot for slot, minder in self._minders.items() if minder.join(0.0)]
        for slot in ended:
            del self._minders[slot]
