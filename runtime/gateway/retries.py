"""Whether a request that got no answer is tried again. Pure.

Inference has no effects, so the same request may run twice: what matters is only that the client
has seen nothing of an answer, and that a crowd of second tries does not bury the replicas that are
left, and that a request which kills its replica does not kill them all. So tries that a replica may
have worked on are few for each request, and paid from a budget that grows with the traffic; those
that never reached one, or that it sent away, are neither.

    every replica once  ── pause ──  every replica once  ── pause ── …  give up

The pauses give an address that stands for changing replicas (a cluster's name, a container that is
started again) the time to lead to a living one.
"""

import enum
from dataclasses import dataclass


class Failure(enum.Enum):
    """How a try ended without an answer."""

    UNREACHED = "unreached"
    """No connection, so nothing was sent."""
    SENT_AWAY = "sent away"
    """503: it drains, or has no model yet."""
    SILENT = "silent"
    """The connection ended before the answer's end; the client has seen none of it."""
    GARBLED = "garbled"
    """What came is no HTTP."""


PAUSES_S = (0.02, 0.1, 0.3, 0.6, 1.0)
"""Before every further round through the replicas."""
COSTLY_MOST = 3
"""Tries of one request that may have cost a replica work."""
BUDGET_START = 100.0
BUDGET_MOST = 1000.0
BUDGET_PER_REQUEST = 0.2


@dataclass(frozen=True)
class Budget:
    """How many further tries may be made that cost a replica work."""

    left: float = BUDGET_START

    def earned(self) -> "Budget":
        """Return it after one more request."""
        return Budget(min(BUDGET_MOST, self.left + BUDGET_PER_REQUEST))

    def spent(self, failure: Failure) -> "Budget":
        """Return it after a further try."""
        return Budget(self.left - 1) if costs(failure) else self


def costs(failure: Failure) -> bool:
    """Say whether the replica may have worked on the try that failed so."""
    return failure in {Failure.SILENT, Failure.GARBLED}


def pause(
    failure: Failure, *, untried: bool, rounds: int, costly: int, budget: Budget, left_s: float
) -> float | None:
    """Return how many seconds to wait before the next try, or None to give up.

    `untried`: there is a replica that this round has not tried. `rounds`: rounds that are over.
    `costly`: tries so far that may have cost work, with this one. `left_s`: what is left of the
    request's time.
    """
    if costs(failure) and (budget.left < 1 or costly >= COSTLY_MOST):
        return None
    if untried:
        wait_s = 0.0
    elif rounds < len(PAUSES_S):
        wait_s = PAUSES_S[rounds]
    else:
        return None
    return wait_s if wait_s < left_s else None
