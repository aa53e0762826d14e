"""When an agent on trial is good: it is linked after a while, or has run for long without a link.

The latter is no proof where the agent before it was linked: then a version that cannot reach the
registry would stay, and nobody could ever replace it. The owner asks at its own pace; once the
verdict is written down, or when this agent runs in no slot, there is nothing more to do.
"""

import enum
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edge_agent.host import slots

log = logging.getLogger(__name__)

LINKED_S = 60.0
"""A link, and so long a life, are a proof."""
ALONE_S = 900.0
"""So is so long a life with no link, where there was none before."""


class Verdict(enum.Enum):
    """What to think of an agent on trial."""

    OPEN = "not yet known"
    GOOD = "stays"
    BAD = "goes"


def judge(age_s: float, *, linked: bool, was_linked: bool) -> Verdict:
    """Return what to think of an agent of this age, whose predecessor was linked or not."""
    if linked:
        return Verdict.GOOD if age_s >= LINKED_S else Verdict.OPEN
    if age_s < ALONE_S:
        return Verdict.OPEN
    return Verdict.BAD if was_linked else Verdict.GOOD


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

    def look(self, *, linked: bool) -> bool:
        """End the trial if that can be; say whether the agent shall make room for the one before.

        That one is started by the launcher, when this process begins again.
        """
        if self._over or self._directory is None:
            return False
        state, age_s = slots.read(self._directory), self._monotonic() - self._since
        verdict = judge(age_s, linked=linked, was_linked=state.linked)
        if verdict is Verdict.OPEN:
            return False
        ended = slots.proved(state)
        if verdict is Verdict.BAD:
            ended = slots.failed(state, f"it did not reach the registry within {ALONE_S:g} s")
        try:
            slots.write(self._directory, ended)
        except OSError as error:
            log.warning("end of the trial not written yet", extra={"reason": str(error)})
            return False
        self._over = True
        log.info("trial of this agent is over", extra={"verdict": verdict.value})
        return verdict is Verdict.BAD
