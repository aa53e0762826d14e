"""What the registry asks this device to do once. All methods are the owner thread's.

    check    the worker that answers inference runs its bundle's check again, beside its traffic
    others   the desk's: edge_agent.remote

The check before a switch is the mind's own, and goes to a worker that does not answer yet; this one
goes to a worker that does.
"""

import logging
from collections.abc import Callable

from edge_agent.mind import effects, events
from edge_agent.mind.effects import Effect
from edge_agent.mind.modules import Stage, Worker
from edge_agent.mind.states import State
from edge_agent.remote.desk import Desk
from runtime import messages
from runtime.errors import InvalidError, LinkError
from runtime.messages import Command, CommandResult

log = logging.getLogger(__name__)

MAX_WAITING = 16
"""Commands that one worker may be asked for at once."""
MAX_ID_CHARS = 128


class Commands:
    """Commands that wait for what a worker says."""

    def __init__(
        self,
        do: Callable[[Effect], None],
        tell: Callable[[CommandResult], None],
        desk: Desk | None = None,
    ) -> None:
        """`tell` may raise LinkError; `desk` does what is no check."""
        self._do, self._tell, self._desk = do, tell, desk
        self._waiting: dict[int, list[Command]] = {}
        """By the slot of the worker that was asked; it answers in order."""

    def take(self, payload: bytes, state: State) -> None:
        """Begin what was asked; raise InvalidError for what is no command."""
        command = messages.decode(Command, payload)
        if len(command.id) > MAX_ID_CHARS:
            raise InvalidError("id", command.id[:80], f"use at most {MAX_ID_CHARS} characters")
        if self._desk is not None and self._desk.knows(command.kind):
            self._desk.take(command)
            return
        if command.kind != messages.CHECK:
            kind = command.kind[:80]
            fix = "see remote_operations in its agent.toml, or upgrade it"
            self._refuse(command, f"this agent has no command {kind!r}: {fix}")
            return
        worker = _answering(state, command.module)
        if worker is None:
            self._refuse(command, f"no module {command.module[:80]!r} answers inference here")
        elif command.bundle not in {None, worker.spec.bundle}:
            runs = f"{worker.spec.model}:{worker.spec.version}"
            self._refuse(command, f"module {command.module} runs {runs}, which is another bundle")
        elif len(self._waiting.get(worker.slot, ())) >= MAX_WAITING:
            self._refuse(command, f"{MAX_WAITING} commands wait already: try again later")
        else:
            self._waiting.setdefault(worker.slot, []).append(command)
            self._do(effects.RunCheck(command.module, worker.slot))

    def checked(self, event: events.WorkerChecked) -> bool:
        """Answer whoever asked for this check; return whether anybody did."""
        waiting = self._waiting.get(event.slot)
        if not waiting:
            return False
        command = waiting.pop(0)
        if not waiting:
            del self._waiting[event.slot]
        self._answer(CommandResult(command.id, event.ok, event.text, command.bundle))
        return True

    def ended(self, event: events.WorkerExited) -> None:
        """Tell whoever waits for a worker that has ended."""
        for command in self._waiting.pop(event.slot, ()):
            self._refuse(command, f"the worker ended before it had checked: {event.text}")

    def _refuse(self, command: Command, why: str) -> None:
        self._answer(CommandResult(command.id, ok=False, text=why))

    def _answer(self, result: CommandResult) -> None:
        log.info("command done", extra={"command": result.id, "ok": result.ok, "said": result.text})
        try:
            self._tell(result)
        except LinkError as error:
            # Whoever asked gives up by itself.
            log.warning("result not told", extra={"command": result.id, "reason": str(error)})


def _answering(state: State, name: str) -> Worker | None:
    """Return the worker that answers inference for a module."""
    for module in state.modules:
        if module.name == name:
            for worker in (module.active, module.warm):
                if worker is not None and worker.stage is Stage.SERVING:
                    return worker
    return None
