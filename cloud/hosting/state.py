"""What the registry durably knows of a service's traffic, and of a take-over that is under way.

    Building ──► Starting ──► Stepping ──► Soaking ──► over: the goal is the new normal
                     │            │  └► Holding ─┘ ▲
                     │            │        ▲       │ promote
                     └────────────┼────────┘       │
                                  └────────────────┘
    from each of them back to `origin`, by `rollback` or by itself
    Failed: the first revision of a service did not become ready; it may still

Saved as plain values in one column; read leniently, so that a field can be added.
"""

import enum
from typing import Any

import msgspec

from cloud.hosting.gates import Baseline
from cloud.hosting.strategies import WHOLE, Kind, Strategy

Weights = dict[int, int]
"""Revision to percent; together WHOLE."""


class Phase(enum.StrEnum):
    """Where a take-over is."""

    BUILDING = "building"
    """Its image is not there yet."""
    STARTING = "starting"
    """Its replicas are not all ready yet."""
    STEPPING = "stepping"
    """canary: it has the share of a step."""
    HOLDING = "holding"
    """It waits for `promote`."""
    SOAKING = "soaking"
    """It has all the traffic; the revisions before are kept warm."""
    FAILED = "failed"
    """It did not become ready, and there is nothing to go back to."""


class Rollout(msgspec.Struct, frozen=True):
    """A take-over that is under way."""

    goal: Weights
    """The weights at its end."""
    origin: Weights
    """The weights that it goes back to; none: it is the service's first."""
    strategy: Strategy
    phase: Phase
    began: float
    since: float
    """When it entered the phase or step; from when all gateways follow it, once `moved`."""
    step: int = 0
    moved: bool = False
    """All gateways follow the weights of this phase."""
    back: bool = False
    """It is a way back; so it is not judged, and never given up."""
    leaves: tuple[int, ...] = ()
    """Revisions that it goes back from."""
    baseline: Baseline = {}
    """What the gateways had counted when the step began."""
    reason: str = ""
    """Why it goes back, or failed."""

    @property
    def candidates(self) -> tuple[int, ...]:
        """Return the revisions that get more than they had."""
        return tuple(n for n, w in sorted(self.goal.items()) if w > self.origin.get(n, 0))


class State(msgspec.Struct, frozen=True):
    """How a service's traffic shall be."""

    traffic: Weights = {}
    mirror: int | None = None
    mirror_fraction: float = 1.0
    stables: tuple[int, ...] = ()
    """Revisions that once were the normal one, oldest first; the last is now."""
    rollout: Rollout | None = None

    @property
    def stable(self) -> int | None:
        """Return the revision that is the normal one; None: none ever was."""
        return self.stables[-1] if self.stables else None

    @property
    def previous(self) -> int | None:
        """Return the revision that `rollback` goes back to; None: there is none."""
        rollout = self.rollout
        if rollout is not None and rollout.origin and not rollout.back:
            return heaviest(rollout.origin)
        return self.stables[-2] if len(self.stables) > 1 else None

    @property
    def wanted(self) -> frozenset[int]:
        """Return the revisions that shall have replicas."""
        found = {number for number, weight in self.traffic.items() if weight}
        if self.mirror is not None:
            found.add(self.mirror)
        if self.rollout is not None:
            found |= self.rollout.goal.keys() | self.rollout.origin.keys()
        return frozenset(found)

    @property
    def needed(self) -> frozenset[int]:
        """Return the revisions whose versions must not be deleted."""
        return self.wanted | {n for n in (self.stable, self.previous) if n is not None}


def heaviest(weights: Weights) -> int:
    """Return the revision with the largest share; the older of two alike."""
    return min(weights, key=lambda number: (-weights[number], number))


def blend(origin: Weights, candidate: int, weight: int) -> Weights:
    """Return weights with `weight` for the candidate, the rest shared as in `origin`."""
    others = {n: w for n, w in sorted(origin.items()) if n != candidate and w}
    if not others or weight == WHOLE:
        return {candidate: WHOLE}
    rest, total = WHOLE - weight, sum(others.values())
    shares = {n: w * rest // total for n, w in others.items()}
    # What rounding left goes to those that lost most by it, the older first.
    lost = sorted(others, key=lambda n: (-(others[n] * rest % total), n))
    for number in lost[: rest - sum(shares.values())]:
        shares[number] += 1
    return {n: w for n, w in {**shares, candidate: weight}.items() if w}


def first(number: int, strategy: Strategy, now: float) -> State:
    """Return the state of a new service: its first revision has all the traffic from the start."""
    goal = {number: WHOLE}
    rollout = Rollout(goal, {}, strategy, Phase.BUILDING, began=now, since=now)
    return State(traffic=goal, rollout=rollout)


def plain(state: State) -> dict[str, Any]:
    """Return a state as plain values."""
    made: dict[str, Any] = msgspec.to_builtins(state, str_keys=True)
    return made


def read(values: dict[str, Any]) -> State:
    """Return the state of plain values."""
    return msgspec.convert(values, State, str_keys=True)


def by_hand(strategy: Strategy) -> Strategy:
    """Return a strategy for weights that somebody set; times as in this one."""
    return msgspec.structs.replace(strategy, kind=Kind.BY_HAND)
