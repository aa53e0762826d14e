"""The moves of a take-over: a step further, all the traffic, the end, the way back. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from cloud.hosting.sight import Decision, Note
from cloud.hosting.state import Phase, Rollout, State, Weights, blend, heaviest
from cloud.hosting.strategies import Kind

TRAFFIC, PROMOTED = "service.traffic", "service.promoted"
ROLLED_BACK, FAILED = "service.rolled_back", "service.failed"


def step(current: State, rollout: Rollout, number: int, why: str, now: float) -> Decision:
    """Give a canary the share of a step."""
    candidate, weight = heaviest(rollout.goal), rollout.strategy.steps[number]
    weights = blend(rollout.origin, candidate, weight)
    entered = replace(
        rollout, phase=Phase.STEPPING, step=number, since=now, moved=False, baseline={}
    )
    note = traffic_note(weights, current.mirror, why)
    return Decision(replace(current, traffic=weights, rollout=entered), (note,))


def switch(current: State, rollout: Rollout, why: str, now: float) -> Decision:
    """Give the goal all it is to have; keep the others warm for a while."""
    mirror = None if current.mirror in rollout.goal else current.mirror
    moved = replace(current, traffic=rollout.goal, mirror=mirror)
    note = traffic_note(rollout.goal, mirror, why)
    if rollout.origin.keys() <= rollout.goal.keys():
        over = finish(moved, rollout)
        return Decision(over.state, (note, *over.notes))
    return Decision(enter(moved, rollout, Phase.SOAKING, now), (note,))


def finish(current: State, rollout: Rollout) -> Decision:
    """Make the goal the new normal."""
    number = heaviest(rollout.goal)
    mirror = None if current.mirror in rollout.goal or rollout.back else current.mirror
    stables = tuple(n for n in current.stables if n != number)
    if rollout.back and number in current.stables:
        stables = current.stables[: current.stables.index(number)]
    over = State(
        traffic=rollout.goal,
        mirror=mirror,
        mirror_fraction=current.mirror_fraction,
        stables=(*stables, number),
    )
    if rollout.back:
        note = Note(ROLLED_BACK, _went_back(rollout.goal, rollout.leaves, rollout.reason))
    else:
        note = Note(PROMOTED, {"revision": f"r{number}", "traffic": weights_text(rollout.goal)})
    return Decision(over, (note,))


def give_up(current: State, rollout: Rollout, why: str, now: float) -> Decision:
    """Go back to the origin: at once where it answers, else as soon as it does."""
    failed = dict.fromkeys(rollout.candidates, why)
    if not rollout.origin:
        shown = [f"r{number}" for number in sorted(rollout.goal)]
        note = Note(FAILED, {"revisions": shown, "reason": why})
        stays = replace(rollout, phase=Phase.FAILED, reason=why)
        return Decision(replace(current, rollout=stays), (note,), failed, waiting=why)
    back = Rollout(
        goal=rollout.origin,
        origin=current.traffic,
        strategy=rollout.strategy,
        phase=Phase.STARTING,
        began=now,
        since=now,
        back=True,
        leaves=rollout.candidates,
        reason=why,
    )
    mirror = None if current.mirror in rollout.goal else current.mirror
    if rollout.strategy.kind is Kind.BY_HAND and current.traffic == rollout.origin:
        # Nothing was moved: it is simply not done.
        note = Note(ROLLED_BACK, _went_back(current.traffic, rollout.candidates, why))
        return Decision(replace(current, rollout=None), (note,), failed)
    return Decision(replace(current, rollout=back, mirror=mirror), (), failed, look_in_s=0.0)


def enter(
    current: State, rollout: Rollout, phase: Phase, now: float, *, moved: bool = False
) -> State:
    """Return the state at the beginning of a phase."""
    return replace(current, rollout=replace(rollout, phase=phase, since=now, moved=moved))


def traffic_note(weights: Weights, mirror: int | None, why: str) -> Note:
    """Return the event of other weights."""
    shown = None if mirror is None else f"r{mirror}"
    return Note(TRAFFIC, {"traffic": weights_text(weights), "mirror": shown, "reason": why})


def _went_back(to: Weights, leaves: Sequence[int], why: str) -> dict[str, Any]:
    shown = [f"r{number}" for number in leaves]
    return {"revisions": shown, "traffic": weights_text(to), "reason": why}


def weights_text(weights: Mapping[int, int]) -> dict[str, int]:
    """Return weights by names of revisions."""
    return {f"r{number}": weight for number, weight in sorted(weights.items())}


def names(numbers: Iterable[int]) -> str:
    """Return names of revisions, for a person."""
    return ", ".join(f"r{number}" for number in sorted(numbers))
