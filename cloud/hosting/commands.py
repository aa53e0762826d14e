"""What an operator does to a service's traffic: from state to state. Pure.

Each of these may come at any time, also in the midst of a take-over, which it then ends. What they
ask for is done by `cloud.hosting.rollout.decide`, once it can be done without harm.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from cloud.errors import ConflictError
from cloud.hosting.state import Phase, Rollout, State, Weights, by_hand, heaviest
from cloud.hosting.strategies import WHOLE, Kind, Strategy
from runtime.errors import InvalidError

DEFAULT = Strategy()


def begin(state: State, number: int, strategy: Strategy, now: float) -> State:
    """Have a new revision take over by this strategy."""
    return _towards(state, {number: WHOLE}, strategy, now)


def set_traffic(
    state: State, weights: Mapping[int, int], now: float, *, strategy: Strategy | None = None
) -> State:
    """Have these shares as soon as all that get one are ready; `strategy` gives the times."""
    if any(not 0 <= weight <= WHOLE for weight in weights.values()):
        raise InvalidError("traffic", _shown(weights), "give percentages from 0 to 100")
    if sum(weights.values()) != WHOLE:
        raise InvalidError("traffic", _shown(weights), "let them add up to 100")
    goal = {n: w for n, w in sorted(weights.items()) if w}
    made = _towards(state, goal, by_hand(strategy or _times(state)), now)
    rollout = made.rollout
    if rollout is None or not rollout.origin:
        return made
    # If it cannot be done, all stays as it is now.
    return replace(made, rollout=replace(rollout, origin=state.traffic))


def set_mirror(state: State, number: int | None, fraction: float) -> State:
    """Have a revision be sent copies of what others answer, or (None) no revision."""
    if not 0 <= fraction <= 1:
        raise InvalidError("mirror_fraction", fraction, "give a fraction from 0 to 1")
    return replace(state, mirror=number, mirror_fraction=fraction)


def promote(state: State, now: float) -> State:
    """Give the newest revision that runs all the traffic, whatever its strategy still waits for.

    Raises ConflictError if it has it already.
    """
    rollout = state.rollout
    if rollout is not None and rollout.phase is Phase.SOAKING:
        hurried = replace(rollout.strategy, soak_s=0.0)
        return replace(state, rollout=replace(rollout, strategy=hurried))
    if rollout is not None and not rollout.back:
        return _towards(state, {max(rollout.goal): WHOLE}, by_hand(rollout.strategy), now)
    running = {number for number, weight in state.traffic.items() if weight}
    newest = max(running | ({state.mirror} if state.mirror is not None else set()))
    if state.traffic == {newest: WHOLE}:
        raise ConflictError(f"promote: r{newest} has all the traffic already")
    return _towards(state, {newest: WHOLE}, by_hand(_times(state)), now)


def rollback(state: State, to: int | None, now: float, *, reason: str) -> State:
    """Go back to where the traffic was before, or to a revision.

    Raises ConflictError if there is nothing before.
    """
    rollout = state.rollout
    if to is not None:
        goal: Weights = {to: WHOLE}
    elif rollout is not None and rollout.back:
        raise ConflictError(f"rollback: it is going back to r{heaviest(rollout.goal)} already")
    elif rollout is not None and rollout.origin:
        goal = rollout.origin
    elif state.previous is not None:
        goal = {state.previous: WHOLE}
    else:
        raise ConflictError("rollback: there is no revision before: name one with --to")
    leaving = (state.wanted if rollout else frozenset(state.traffic)) - goal.keys()
    if state.traffic == goal and (rollout is None or not rollout.origin):
        raise ConflictError(f"rollback: {_shown(goal)} has all the traffic already")
    mirror = state.mirror if rollout is None or state.mirror not in rollout.goal else None
    back = Rollout(
        goal=goal,
        origin=state.traffic,
        strategy=rollout.strategy if rollout else DEFAULT,
        phase=Phase.BUILDING,
        began=now,
        since=now,
        back=True,
        leaves=tuple(sorted(leaving)),
        reason=reason,
    )
    return replace(state, mirror=mirror, rollout=back)


def _towards(state: State, goal: Weights, strategy: Strategy, now: float) -> State:
    """Return the state in which this goal is on its way."""
    origin, old = _base(state), state.rollout
    made = Rollout(goal, origin, strategy, Phase.BUILDING, began=now, since=now)
    stables = state.stables
    if old is not None and old.phase is Phase.SOAKING:
        stable = heaviest(old.goal)
        stables = (*(n for n in stables if n != stable), stable)
    # A shadow whose take-over ends here is none any more; by hand, it stays one until it answers.
    shadowed = old is not None and state.mirror in old.goal and strategy.kind is not Kind.BY_HAND
    return State(
        traffic=state.traffic if origin else goal,
        mirror=None if shadowed else state.mirror,
        mirror_fraction=state.mirror_fraction,
        stables=stables,
        rollout=made,
    )


def _base(state: State) -> Weights:
    """Return the weights that are the normal ones while a take-over is under way."""
    rollout = state.rollout
    if rollout is None:
        return state.traffic
    if rollout.phase is Phase.SOAKING or (rollout.back and rollout.origin):
        return rollout.goal
    return rollout.origin


def _times(state: State) -> Strategy:
    return state.rollout.strategy if state.rollout is not None else DEFAULT


def _shown(weights: Mapping[int, int]) -> str:
    return " ".join(f"r{number}={weight}" for number, weight in sorted(weights.items()))
