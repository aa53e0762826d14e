"""Who minds what: minders of one module take turns at the engine, and may make each other rest.

While a version that stops the one before is tried, the one before rests. If the new one goes away
untried or failed, what it made rest goes on, whatever the agent's mind is busy with.
"""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.containers.minder import ContainerMinder


class Yard:
    """All minders of the agent, by module."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._lock = threading.Lock()
        self._turns: dict[str, threading.RLock] = {}
        self._minders: dict[str, list[ContainerMinder]] = {}

    def turn(self, module: str) -> "threading.RLock":
        """Return what whoever speaks to the engine about a module holds."""
        with self._lock:
            return self._turns.setdefault(module, threading.RLock())

    def enter(self, minder: "ContainerMinder") -> None:
        """Count with one more."""
        with self._lock:
            self._minders.setdefault(minder.module, []).append(minder)

    def leave(self, minder: "ContainerMinder") -> None:
        """Count with one less; what it made rest goes on."""
        with self._lock:
            left = self._minders[minder.module]
            left.remove(minder)
        for other in tuple(left):
            other.release(minder)

    def minded(self, module: str) -> bool:
        """Say whether somebody minds containers of a module."""
        with self._lock:
            return bool(self._minders.get(module))

    def others(self, minder: "ContainerMinder") -> tuple["ContainerMinder", ...]:
        """Return who else minds containers of the same module."""
        with self._lock:
            held = self._minders.get(minder.module, ())
            return tuple(other for other in held if other is not minder)
