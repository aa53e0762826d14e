"""How a new revision takes over, as an operator asks for it. Pure.

The ways:

    rolling      it gets all the traffic once it is ready; the old one stays warm for `soak_s`
    blue-green   it becomes ready without traffic, and waits for `promote`
    canary       it gets the shares `steps`, one after the other, as long as the gates hold
    shadow       it is sent copies, its answers are compared and thrown away; waits for `promote`
"""

import enum
import itertools

import msgspec

from runtime.errors import InvalidError

MAX_STEPS = 20
MAX_S = 7 * 86400.0
WHOLE = 100


class Kind(enum.StrEnum):
    """Which way a new revision takes."""

    ROLLING = "rolling"
    BLUE_GREEN = "blue-green"
    CANARY = "canary"
    SHADOW = "shadow"
    BY_HAND = "by-hand"
    """Weights that an operator set; no update can ask for it."""


class OnSilence(enum.StrEnum):
    """What happens with a canary that too few requests came to, after `silence_s`."""

    WAIT = "wait"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a canary must keep to at each step; None: not judged."""

    min_requests: int = 100
    """Below this nothing good is believed of it."""
    max_error_rate: float | None = 0.05
    """Fraction of its requests."""
    max_error_excess: float | None = 0.02
    """By how much its error rate may be above that of the revisions before."""
    max_p95_ratio: float | None = 1.5
    """Its 95th percentile of latency, divided by that of the revisions before."""


class Strategy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is asked for one take-over. Times in seconds."""

    kind: Kind = Kind.ROLLING
    progress_s: float = 600.0
    """A revision that is not ready after so long is rolled back."""
    soak_s: float = 60.0
    """How long the revisions before stay warm, once they have no traffic."""
    steps: tuple[int, ...] = (10, 50, WHOLE)
    """canary: percent, rising. If the last is below 100, it waits there for `promote`."""
    step_s: float = 60.0
    """canary: how long a step takes at least."""
    gates: Gates = Gates()
    silence_s: float = 600.0
    """canary: how long a step waits for `gates.min_requests`."""
    on_silence: OnSilence = OnSilence.WAIT
    mirror_fraction: float = 1.0
    """shadow: the fraction of requests that are copied."""


def check(strategy: Strategy) -> Strategy:
    """Return a strategy that can be followed; raise InvalidError for any other."""
    if strategy.kind is Kind.BY_HAND:
        raise InvalidError("strategy", strategy.kind.value, "use `packhorse services traffic`")
    for field in ("progress_s", "soak_s", "step_s", "silence_s"):
        value = getattr(strategy, field)
        if not 0 <= value <= MAX_S:
            raise InvalidError(f"strategy.{field}", value, f"give 0 to {MAX_S:.0f} seconds")
    if strategy.progress_s == 0:
        raise InvalidError("strategy.progress_s", 0, "give it some time to become ready")
    steps = strategy.steps
    rising = all(low < high for low, high in itertools.pairwise(steps))
    if not 0 < len(steps) <= MAX_STEPS or not rising or not 0 < steps[0] <= steps[-1] <= WHOLE:
        fix = f"give 1 to {MAX_STEPS} rising percentages from 1 to 100, such as 10, 50, 100"
        raise InvalidError("strategy.steps", steps, fix)
    if not 0 <= strategy.mirror_fraction <= 1:
        fix = "give a fraction from 0 to 1"
        raise InvalidError("strategy.mirror_fraction", strategy.mirror_fraction, fix)
    _check_gates(strategy.gates)
    return strategy


def _check_gates(gates: Gates) -> None:
    if gates.min_requests < 1:
        raise InvalidError("strategy.gates.min_requests", gates.min_requests, "give 1 or more")
    for field in ("max_error_rate", "max_error_excess"):
        value = getattr(gates, field)
        if value is not None and not 0 <= value <= 1:
            raise InvalidError(f"strategy.gates.{field}", value, "give a fraction from 0 to 1")
    ratio = gates.max_p95_ratio
    if ratio is not None and not 1 <= ratio <= 1000:  # noqa: PLR2004 - far beyond any use
        raise InvalidError("strategy.gates.max_p95_ratio", ratio, "give 1 to 1000")
