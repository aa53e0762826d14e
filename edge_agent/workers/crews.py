"""Who runs a bundle: worker processes run models, the container engine runs containers.

What the mind asks of a slot is the same for both. Nothing of containers is imported before there
is one: the supervisor stays as small as it was.
"""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.mind import effects
from edge_agent.worker import protocol
from edge_agent.workers.engineroom import EngineRoom
from edge_agent.workers.supervisor import WorkerSupervisor
from runtime.bundle.index import Check, Index
from runtime.messages import ModuleSpec

if TYPE_CHECKING:
    from edge_agent.containers.supervisor import ContainerSupervisor


class Crews:
    """All slots of the agent. All methods are the owner thread's."""

    def __init__(self, models: WorkerSupervisor, room: EngineRoom) -> None:
        """`room` is asked for a supervisor when the first container is to run."""
        self._models, self.room = models, room
        self._containers: ContainerSupervisor | None = None

    def start(self, slot: int, spec: ModuleSpec, directory: Path, index: Index) -> None:
        """Start what a bundle is."""
        if index.container is None:
            self._models.start(slot, spec, directory, index)
            return
        if self._containers is None:
            self._containers = self.room.supervisor()
        self._containers.start(slot, spec, index.container)

    def send(self, slot: int, message: protocol.ToWorker) -> None:
        """Tell a slot something; one that has ended does not hear it."""
        if self._containers is not None and self._containers.holds(slot):
            self._containers.send(slot, message)
        else:
            self._models.send(slot, message)

    def mirror(self, slot: int, effect: effects.Mirror, check: Check) -> None:
        """Have a worker give inputs to its module's candidate; containers have none."""
        self._models.mirror(slot, effect, check)

    def stop(self, slot: int, *, kill: bool = False) -> None:
        """Have a slot end."""
        if self._containers is not None and self._containers.holds(slot):
            self._containers.stop(slot, kill=kill)
            return
        module = self._models.module_of(slot)
        self._models.stop(slot, kill=kill)
        if self._containers is not None and module in self._containers.modules():
            # Nobody answers at its socket any more: whoever connects is to hear so at once.
            self._models.close(module)

    def stop_all(self, timeout_s: float) -> None:
        """End: workers drain and end; containers run on, and are taken over by the next agent."""
        if self._containers is not None:
            self._containers.leave(timeout_s)
        self._models.stop_all(timeout_s)

    def copy_logs(self, module: str) -> None:
        """Bring a module's log up to date, from any thread: workers write theirs themselves."""
        if self._containers is not None:
            self._containers.copy_logs(module)

    def close(self, module: str) -> None:
        """Let go of a module that nobody wants and that has no slot any more."""
        self._models.close(module)
        if (containers := self._used_containers()) is not None:
            containers.forget(module)

    def close_others(self, modules: Collection[str]) -> None:
        """Let go of what an agent before left of modules that are none of these."""
        if (containers := self._used_containers()) is not None:
            containers.forget_others(modules)

    def spool(self, module: str) -> Path:
        """Return where a module's records are left."""
        return self._models.spool(module)

    def _used_containers(self) -> "ContainerSupervisor | None":
        """Return who minds containers, if there were ever any on this device."""
        if self._containers is None and self.room.was_used():
            self._containers = self.room.supervisor()
        return self._containers
