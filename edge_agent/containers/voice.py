"""What a minder of containers tells the mind, under its own module and slot."""

from typing import TYPE_CHECKING

from edge_agent.mind import events

if TYPE_CHECKING:
    from edge_agent.containers.orders import End, Told

QUIET_S = 1.0
"""What is waited for may change with each question; it is told at most this often."""


class Voice:
    """Of one minder; from its thread alone."""

    def __init__(self, told: "Told", module: str, slot: int) -> None:
        """Speak to whom the supervisor named."""
        self._told, self._module, self._slot = told, module, slot
        self._waits_for = ""
        self._waits_at = 0.0

    def say(self, kind: type[events.WorkerEvent]) -> None:
        """Tell what needs no more words."""
        self._told.put(kind(self._module, self._slot))

    def checked(self, *, ok: bool, text: str) -> None:
        """Tell what came of a check."""
        self._told.put(events.WorkerChecked(self._module, self._slot, ok, text))

    def failed(self, text: str) -> None:
        """Tell that the containers cannot be started."""
        self._told.put(events.WorkerFailed(self._module, self._slot, text))

    def exited(self, end: "End") -> None:
        """Tell the last of all."""
        gone = (self._module, self._slot, end.text, end.final, end.blameless)
        self._told.put(events.WorkerExited(*gone))

    def waits(self, text: str, now: float) -> None:
        """Tell what is waited for, if that is news; "": for nothing any more."""
        if text == self._waits_for or (text and now - self._waits_at < QUIET_S):
            return
        self._waits_for, self._waits_at = text, now
        self._told.put(events.WorkerWaits(self._module, self._slot, text))

    def engine(self, trouble: str) -> None:
        """Tell what is wrong with the engine; "": nothing any more."""
        self._told.engine(trouble)
