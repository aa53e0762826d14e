"""The next step of a take-over, by what is there: a function of values. Pure.

What holds, whatever happens (tests/properties/test_rollout_machine.py):

- weights add up to 100, and name revisions that shall have replicas;
- no weight is moved to a revision that is not ready while another with weight is;
- what cannot be seen decides nothing: a target that does not answer leaves all as it was;
- whoever fails goes back to where the traffic came from, and its revision says why.
"""

from msgspec.structs import replace

from cloud.hosting import canary, gates, moves
from cloud.hosting.sight import Decision, Seen
from cloud.hosting.state import Phase, Rollout, State, heaviest
from cloud.hosting.strategies import WHOLE, Kind


def decide(current: State, seen: Seen, now: float) -> Decision:
    """Return the next state, and what to tell of it."""
    rollout = current.rollout
    if rollout is None:
        return Decision(current)
    if rollout.phase is Phase.BUILDING:
        return _building(current, rollout, seen, now)
    if not seen.known:
        return Decision(current, waiting=seen.trouble or "the target does not answer")
    return _PHASES[rollout.phase](current, rollout, seen, now)


def _building(current: State, rollout: Rollout, seen: Seen, now: float) -> Decision:
    superseded = _superseded(current, rollout, seen)
    if superseded is not None:
        return superseded
    broken = {n: seen.broken[n] for n in sorted(rollout.goal) if n in seen.broken}
    if broken and not rollout.back:
        return moves.give_up(current, rollout, "; ".join(broken.values()), now)
    if rollout.goal.keys() <= seen.images:
        return Decision(moves.enter(current, rollout, Phase.STARTING, now), look_in_s=0.0)
    return Decision(current, waiting="; ".join(broken.values()) or "the image is being built")


def _starting(current: State, rollout: Rollout, seen: Seen, now: float) -> Decision:
    superseded = _superseded(current, rollout, seen)
    if superseded is not None:
        return superseded
    if _there(current, rollout, seen):
        return _arrive(current, rollout, now)
    why = seen.why(tuple(sorted(rollout.goal)))
    if rollout.back or rollout.phase is Phase.FAILED:
        return Decision(current, waiting=why)
    left_s = rollout.since + rollout.strategy.progress_s - now
    if left_s <= 0:
        text = f"not ready within {rollout.strategy.progress_s:.0f} s: {why}"
        return moves.give_up(current, rollout, text, now)
    return Decision(current, waiting=why, look_in_s=left_s)


def _there(current: State, rollout: Rollout, seen: Seen) -> bool:
    """Say whether traffic may be moved: a way back asks for less, since worse is what there is."""
    if not rollout.back:
        return all(map(seen.ready, rollout.goal))
    return all(map(seen.answers, rollout.goal)) or not any(map(seen.answers, current.traffic))


def _superseded(current: State, rollout: Rollout, seen: Seen) -> Decision | None:
    """Give back the share that another canary had when this update came."""
    base = rollout.origin
    if rollout.strategy.kind is Kind.BY_HAND or not base or current.traffic == base:
        return None
    if not seen.known:
        return None
    if not all(map(seen.answers, base)):
        return None
    note = moves.traffic_note(base, current.mirror, "another update took its place")
    return Decision(replace(current, traffic=base), (note,), look_in_s=0.0)


def _arrive(current: State, rollout: Rollout, now: float) -> Decision:
    """Go on from where the new revisions are ready."""
    candidate, strategy = heaviest(rollout.goal), rollout.strategy
    if rollout.back or not rollout.origin:
        return moves.finish(current, rollout)
    match strategy.kind:
        case Kind.BLUE_GREEN:
            return Decision(moves.enter(current, rollout, Phase.HOLDING, now))
        case Kind.SHADOW:
            return _mirror(current, rollout, now)
        case Kind.CANARY if strategy.steps[0] < WHOLE:
            return moves.step(current, rollout, 0, f"r{candidate} is ready", now)
        case _:
            return moves.switch(current, rollout, f"{moves.names(rollout.goal)} ready", now)


def _mirror(current: State, rollout: Rollout, now: float) -> Decision:
    shadow = heaviest(rollout.goal)
    fraction = rollout.strategy.mirror_fraction
    mirrored = replace(current, mirror=shadow, mirror_fraction=fraction)
    note = moves.traffic_note(current.traffic, shadow, f"r{shadow} is ready")
    return Decision(moves.enter(mirrored, rollout, Phase.HOLDING, now), (note,))


def _holding(current: State, rollout: Rollout, seen: Seen, now: float) -> Decision:
    candidate = heaviest(rollout.goal)
    if current.traffic.get(candidate):
        found = canary.lost(current, rollout, seen, now) or canary.judged(
            current, rollout, seen, now
        )
        if found is not None:
            return found
    return Decision(current, waiting=f"r{candidate} waits for `packhorse services promote`")


def _soaking(current: State, rollout: Rollout, seen: Seen, now: float) -> Decision:
    way_back = all(map(seen.answers, rollout.origin))
    gone = [number for number in rollout.candidates if not seen.answers(number)]
    if gone and way_back:
        return moves.give_up(current, rollout, f"it stopped answering: {seen.why(gone)}", now)
    if not rollout.moved:
        return _soak_begins(current, rollout, seen, now)
    if rollout.strategy.kind is Kind.CANARY and way_back:
        judged = canary.judged(current, rollout, seen, now)
        if judged is not None:
            return judged
    left_s = rollout.since + rollout.strategy.soak_s - now
    if left_s > 0:
        warm = moves.names(rollout.origin.keys() - rollout.goal.keys())
        text = f"{warm} is kept warm for {left_s:.0f} s more"
        return Decision(current, waiting=text, look_in_s=left_s)
    return moves.finish(current, rollout)


def _soak_begins(current: State, rollout: Rollout, seen: Seen, now: float) -> Decision:
    if not seen.in_force:
        return Decision(current, waiting="the gateways are being told")
    baseline = gates.snapshot(seen.statuses) if rollout.strategy.kind is Kind.CANARY else {}
    begun = replace(rollout, moved=True, since=now, baseline=baseline)
    return Decision(replace(current, rollout=begun), look_in_s=rollout.strategy.soak_s)


_PHASES = {
    Phase.STARTING: _starting,
    Phase.FAILED: _starting,
    Phase.STEPPING: canary.stepping,
    Phase.HOLDING: _holding,
    Phase.SOAKING: _soaking,
}
