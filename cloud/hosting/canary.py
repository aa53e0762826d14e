"""A canary on its way: step by step, as long as its gates hold. Pure."""

import dataclasses

from msgspec.structs import replace

from cloud.hosting import gates, moves
from cloud.hosting.gates import Judgement, Verdict
from cloud.hosting.sight import Decision, Seen
from cloud.hosting.state import Phase, Rollout, State, heaviest
from cloud.hosting.strategies import WHOLE, OnSilence


def stepping(current: State, rollout: Rollout, seen: Seen, now: float) -> Decision:
    """Return what comes next while it has the share of a step."""
    found = lost(current, rollout, seen, now)
    if found is not None:
        return found
    if not rollout.moved:
        return _moving(current, rollout, seen, now)
    return judged(current, rollout, seen, now) or _held(current, rollout, seen, now)


def lost(current: State, rollout: Rollout, seen: Seen, now: float) -> Decision | None:
    """Return the way back if no replica of the canary answers; None while one does."""
    candidate = heaviest(rollout.goal)
    if seen.answers(candidate):
        return None
    why = seen.why((candidate,)) or f"r{candidate}: no replica answers"
    return moves.give_up(current, rollout, f"it stopped answering: {why}", now)


def judged(current: State, rollout: Rollout, seen: Seen, now: float) -> Decision | None:
    """Return what follows from the counts alone; None: nothing, it may go on."""
    baseline = gates.completed(rollout.baseline, seen.statuses, rollout.since)
    if baseline is not rollout.baseline:
        known = replace(current, rollout=replace(rollout, baseline=baseline))
        return Decision(known, look_in_s=0.0)
    judgement = _judge(current, rollout, seen)
    if judgement.verdict is Verdict.FAILS:
        return moves.give_up(current, rollout, judgement.text, now)
    return None


def _judge(current: State, rollout: Rollout, seen: Seen) -> Judgement:
    candidate, others = heaviest(rollout.goal), current.traffic.keys() - rollout.goal.keys()
    counts = gates.since_then(rollout.baseline, seen.statuses, [f"r{candidate}"])
    before = gates.since_then(rollout.baseline, seen.statuses, [f"r{n}" for n in others])
    return gates.judge(rollout.strategy.gates, counts, before if others else None)


def _held(current: State, rollout: Rollout, seen: Seen, now: float) -> Decision:
    """Go a step further when the time is over, and enough was seen."""
    strategy, judgement = rollout.strategy, _judge(current, rollout, seen)
    share = f"{strategy.steps[rollout.step]} %: {judgement.text}"
    left_s = rollout.since + strategy.step_s - now
    if left_s > 0:
        return Decision(current, waiting=share, look_in_s=left_s)
    if judgement.verdict is Verdict.TOO_FEW:
        silent = _silent(current, rollout, judgement, now)
        if silent is not None:
            return dataclasses.replace(silent, waiting=share)
    if not seen.ready(heaviest(rollout.goal)):
        return _half_there(current, rollout, seen, now)
    return _next_step(current, rollout, judgement.text, now)


def _silent(current: State, rollout: Rollout, judgement: Judgement, now: float) -> Decision | None:
    """Return what comes of too few requests; None: it goes on as if it had done well."""
    strategy = rollout.strategy
    left_s = rollout.since + max(strategy.silence_s, strategy.step_s) - now
    if left_s > 0:
        return Decision(current, look_in_s=left_s)
    match strategy.on_silence:
        case OnSilence.WAIT:
            return Decision(current)
        case OnSilence.ROLLBACK:
            text = f"too few requests to judge it: {judgement.text}"
            return moves.give_up(current, rollout, text, now)
        case OnSilence.PROMOTE:
            return None


def _half_there(current: State, rollout: Rollout, seen: Seen, now: float) -> Decision:
    """Wait for replicas that went away, but not for ever."""
    why = seen.why((heaviest(rollout.goal),))
    left_s = rollout.since + rollout.strategy.step_s + rollout.strategy.progress_s - now
    if left_s <= 0:
        return moves.give_up(current, rollout, f"some replicas stopped answering: {why}", now)
    return Decision(current, waiting=why, look_in_s=left_s)


def _next_step(current: State, rollout: Rollout, why: str, now: float) -> Decision:
    steps, following = rollout.strategy.steps, rollout.step + 1
    if following == len(steps):
        return Decision(moves.enter(current, rollout, Phase.HOLDING, now, moved=True))
    if steps[following] == WHOLE:
        return moves.switch(current, replace(rollout, step=following), why, now)
    return moves.step(current, rollout, following, why, now)


def _moving(current: State, rollout: Rollout, seen: Seen, now: float) -> Decision:
    """Wait until the gateways follow; only then does the step begin."""
    if seen.in_force:
        baseline = gates.snapshot(seen.statuses)
        begun = replace(rollout, moved=True, since=now, baseline=baseline)
        return Decision(replace(current, rollout=begun), look_in_s=rollout.strategy.step_s)
    left_s = rollout.since + rollout.strategy.progress_s - now
    if left_s <= 0:
        text = f"the gateways did not follow within {rollout.strategy.progress_s:.0f} s"
        return moves.give_up(current, rollout, text, now)
    return Decision(current, waiting="the gateways are being told", look_in_s=left_s)
