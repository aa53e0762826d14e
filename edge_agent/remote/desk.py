"""Does what the registry asks for beside checks: each in a thread of its own, which ends with it.

A thread, since nothing here may hold up the owner; none of them is there while nothing is asked.
What takes longer than whoever asked waits is given up. Large answers go out in pieces.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from edge_agent.remote.ring import Ring
from runtime import operations, pieces
from runtime.errors import InvalidError, LinkError, PackhorseError
from runtime.messages import Command, CommandResult
from runtime.operations import Options

log = logging.getLogger(__name__)

MAX_BUSY = 4
"""Operations at once: the device has other work."""
MAX_DEADLINE_S = 3600.0


@dataclass(frozen=True)
class Asked:
    """One operation under way."""

    command: Command
    options: Options
    until: float
    """Monotonic clock: nobody waits any longer."""

    def left_s(self) -> float:
        """Return how long somebody still waits, never below 0."""
        return max(0.0, self.until - time.monotonic())


@dataclass(frozen=True)
class Outcome:
    """What came of an operation."""

    text: str
    data: bytes = b""
    facts: dict[str, str] | None = None
    ok: bool = True
    then: Callable[[], None] | None = None
    """What follows once it has been told."""


Operation = Callable[[Asked], Outcome]
"""May raise PackhorseError or OSError: told as the reason why not."""


class Desk:
    """Takes commands from the owner thread."""

    def __init__(
        self, operations: dict[str, Operation], tell: Callable[[CommandResult], None], ring: Ring
    ) -> None:
        """`tell` may be called from any thread and may raise LinkError."""
        self._operations, self._tell, self._ring = operations, tell, ring
        self._busy = threading.BoundedSemaphore(MAX_BUSY)

    def start(self) -> None:
        """Begin to keep log lines."""
        self._ring.attach()

    def stop(self) -> None:
        """Keep no more; what is under way ends with the process."""
        self._ring.detach()

    def knows(self, kind: str) -> bool:
        """Say whether this agent can do something of this kind."""
        return kind in self._operations

    def take(self, command: Command) -> None:
        """Begin an operation; returns at once."""
        try:
            options = operations.options(command.kind, command.options)
        except InvalidError as error:
            self._answer(command, Outcome(str(error), ok=False))
            return
        if not self._busy.acquire(blocking=False):
            text = f"{MAX_BUSY} operations are under way here: try again later"
            self._answer(command, Outcome(text, ok=False))
            return
        until = time.monotonic() + min(MAX_DEADLINE_S, max(0.0, command.deadline_s))
        asked = Asked(command, options, until)
        threading.Thread(
            target=self._run, args=(asked,), name=f"remote-{command.kind}", daemon=True
        ).start()

    def _run(self, asked: Asked) -> None:
        command = asked.command
        try:
            outcome = self._operations[command.kind](asked)
        except (PackhorseError, OSError) as error:
            outcome = Outcome(str(error), ok=False)
        except Exception as error:  # the outermost loop of this thread
            log.exception("operation failed", extra={"kind": command.kind})
            outcome = Outcome(f"the agent has a bug: {error!r}: see its log", ok=False)
        finally:
            self._busy.release()
        self._answer(command, outcome)
        if outcome.then is not None:
            outcome.then()

    def _answer(self, command: Command, outcome: Outcome) -> None:
        result = CommandResult(
            command.id,
            outcome.ok,
            outcome.text,
            facts=outcome.facts or {},
            data=outcome.data,
        )
        told = {"command": command.id, "kind": command.kind, "ok": outcome.ok}
        if command.kind != operations.LOGS:  # which would tell itself of itself for ever
            log.info("operation done", extra={**told, "said": outcome.text})
        try:
            whole = pieces.cut(result)
        except InvalidError as error:
            whole = (replace(result, ok=False, text=str(error), data=b""),)
        try:
            for piece in whole:
                self._tell(piece)
        except LinkError as error:
            # Whoever asked gives up by itself.
            log.warning("result not told", extra={**told, "reason": str(error)})
