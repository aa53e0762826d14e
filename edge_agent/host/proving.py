"""When an agent on trial is good: it was linked for a while, or has run long enough without a link.

The owner asks at its own pace; once the proof is written down, or when this agent runs in no slot,
there is nothing more to do.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edge_agent.host import slots

log = logging.getLogger(__name__)

LINKED_S = 60.0
"""A link, and so long a life, are a proof."""
ALONE_S = 900.0
"""So is so long a life with no link: the site may have no network."""


def is_good(age_s: float, *, linked: bool) -> bool:
    """Say whether an agent of this age has proved itself."""
    return age_s >= (LINKED_S if linked else ALONE_S)


class Proving:
    """The trial of this agent; the owner thread's."""

    def __init__(
        self, directory: Path | None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`directory` of the slots; None: the agent runs in no slot."""
        self._directory, self._monotonic = directory, monotonic
        self._since = monotonic()
        state = slots.Slots() if directory is None else slots.read(directory)
        self._over = not state.trial
        self.undone = state.reason
        """Why the last update was undone; empty: it was not."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Proving":
        """Return the trial of the agent that the launcher started."""
        place = environment.get(slots.PLACE)
        return cls(Path(place) if place else None)

    def troubles(self) -> dict[str, str]:
        """Return what a person should look at, by what it is about."""
        return {"update": f"update undone: {self.undone}"} if self.undone else {}

    def within(self, wait_s: float | None) -> float | None:
        """Return how long the owner may sleep at most."""
        if self._over:
            return wait_s
        return LINKED_S / 4 if wait_s is None else min(wait_s, LINKED_S / 4)

    def look(self, *, linked: bool) -> None:
        """End the trial if the agent is good by now."""
        if self._over or self._directory is None:
            return
        if not is_good(self._monotonic() - self._since, linked=linked):
            return
        try:
            slots.write(self._directory, slots.proved(slots.read(self._directory)))
        except OSError as error:
            log.warning("update not confirmed yet", extra={"reason": str(error)})
            return
        self._over = True
        log.info("update confirmed: this agent has proved itself")
