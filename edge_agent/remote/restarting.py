"""Starts a module's worker anew, or the agent itself."""

import threading
from collections.abc import Callable

from edge_agent.mind import events
from edge_agent.mind.events import Event, News
from edge_agent.mind.modules import Module, Stage
from edge_agent.mind.states import State
from edge_agent.remote.desk import Asked, Outcome
from runtime.errors import InvalidError

LOOK_S = 0.1
SLACK_S = 1.0


class Restarting:
    """Asks the mind for another worker, and watches until that one answers."""

    def __init__(self, state: Callable[[], State], put: Callable[[Event | News], None]) -> None:
        """`state` returns what is; `put` tells the owner."""
        self._state, self._put = state, put
        self._pause = threading.Event()
        self.again = False
        """The agent ends in order to start anew."""

    def __call__(self, asked: Asked) -> Outcome:
        """Return once the module answers again; the agent ends after it has answered."""
        name = asked.command.module
        if not name:
            return Outcome("the agent starts anew now", then=self.agent)
        before = self._serving(name)
        if before is None:
            raise InvalidError("module", name[:80], "it answers no inference now")
        self._put(events.RestartAsked(name))
        while asked.left_s() > SLACK_S:
            now = self._serving(name)
            if now is not None and now != before:
                return Outcome(f"{name} answers again, in another process")
            self._pause.wait(LOOK_S)
        return Outcome(f"{name} does not answer yet: see its report", ok=False)

    def agent(self) -> None:
        """Have the agent end, and its process begin anew."""
        self.again = True
        self._put(events.StopAsked())

    def _serving(self, name: str) -> int | None:
        """Return the slot of the worker that answers for a module."""
        module = next((each for each in self._state().modules if each.name == name), None)
        return None if module is None else _slot(module)


def _slot(module: Module) -> int | None:
    active = module.active
    return active.slot if active is not None and active.stage is Stage.SERVING else None
