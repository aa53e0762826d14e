"""How a rollout would go if devices did as they are told: real decisions, made-up devices. Pure.

A device takes DEVICE_S. Somebody approves at once; windows are waited for.
"""

from dataclasses import dataclass, replace

from cloud.rollouts import decide, windows
from cloud.rollouts.state import Member, Progress, Rollout, Scene, Sight, Standing, State, Step
from cloud.rollouts.strategy import Strategy

DEVICE_S = 60.0
"""What a device is taken to need from its turn to its word that it runs."""
MOST_TURNS = 2000


@dataclass(frozen=True)
class Forecast:
    """The best that can be hoped for."""

    waves: tuple[int, ...]
    """Devices of each wave."""
    seconds: float | None
    """None: it would not come to an end by itself."""
    approvals: int
    waited: bool
    """Whether windows had to be waited for."""


def forecast(strategy: Strategy, sights: dict[str, Sight], now: float) -> Forecast:
    """Return how it would go; devices that are not heard of, or in conflict, stay away."""
    first = Step.APPROVAL if strategy.waves[0].approve else Step.OPEN
    members = {device: Member(since=now) for device in sights}
    made = Rollout("plan", strategy, began_at=now, step=first, wave_at=now, members=members)
    at, approvals, waited = now, 0, False
    for _ in range(MOST_TURNS):
        scene = _scene(made, sights, at)
        made, _actions = decide.settle(made, scene, at)
        if made.state is not State.RUNNING:
            break
        if made.step is Step.APPROVAL:
            approvals += 1
            made = replace(made, approved=made.approved | {made.wave})
            continue
        later = _next(made, at, open_now=scene.window_open)
        waited = waited or not scene.window_open
        if later is None:
            break
        at = later
    sizes = [0] * len(strategy.waves)
    for member in made.members.values():
        if member.standing is Standing.UPDATED and member.wave is not None:
            sizes[member.wave] += 1
    done = made.state is State.COMPLETE
    return Forecast(tuple(sizes), at - now if done else None, approvals, waited)


def _scene(made: Rollout, sights: dict[str, Sight], at: float) -> Scene:
    seen = {
        device: replace(
            sight,
            heard_at=at if sight.heard else sight.heard_at,
            progress=_progress(made.members[device], at),
            superseded="",
            reason="",
        )
        for device, sight in sights.items()
    }
    return Scene(seen, window_open=windows.is_open(made.strategy.update, at))


def _progress(member: Member, at: float) -> Progress:
    if member.standing is Standing.UPDATED:
        return Progress.RUNNING
    if member.standing is not Standing.UPDATING:
        return Progress.QUIET
    return Progress.RUNNING if at - member.since >= DEVICE_S else Progress.SWITCHING


def _next(made: Rollout, at: float, *, open_now: bool) -> float | None:
    """Return when something happens next; None: never."""
    flying = [m.since for m in made.members.values() if m.standing is Standing.UPDATING]
    if flying:
        return max(at, min(flying) + DEVICE_S)
    if made.step is Step.SOAKING:
        return max(at + 1.0, made.wave_at + made.strategy.waves[made.wave].soak_s)
    return None if open_now else windows.next_begin(made.strategy.update, at)
