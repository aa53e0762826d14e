"""What a rollout does next: a function of values. Pure.

What holds, whatever happens (tests/properties/test_fleet_rollouts.py):

- no more devices are made unavailable than the budget allows, on the way back either;
- a device is admitted only in the present wave, and a wave begins only after the gate before it;
- whoever waits for nothing but time ends: time-outs are the only other way out of each standing;
- after an abort every device that was changed gets what it ran before;
- a device that may download only in windows always has one that is not over;
- each device has one standing, and in a rollout that is over one outcome.

`decide` is called again with what its actions made of the rollout until there are none.
"""

import hashlib
from collections.abc import Iterable, Iterator

from cloud.rollouts.budgets import Room
from cloud.rollouts.observing import observe
from cloud.rollouts.state import (
    ADMITTED,
    FAILURES,
    OVER,
    UNCOUNTED,
    Action,
    Assign,
    Enter,
    Grant,
    Move,
    Rollout,
    Scene,
    Standing,
    State,
    Step,
    Turn,
    apply,
)
from cloud.rollouts.strategy import Wave
from runtime.wording import counted

ROUNDS = 1000
"""More than any rollout needs: each round brings it to another wave, step or state."""


def decide(rollout: Rollout, scene: Scene, now: float) -> tuple[Action, ...]:
    """Return what follows from what is seen now; nothing if all is as it should be."""
    seen = tuple(
        move
        for device in sorted(rollout.members)
        if (move := observe(rollout, device, scene.of(device), now, window_open=scene.window_open))
    )
    after = apply(rollout, seen, now)
    return seen + tuple(_steer(after, scene, now)) or _grant(after, scene, now)


def _grant(rollout: Rollout, scene: Scene, now: float) -> tuple[Action, ...]:
    """Give a download window to those that still have to download, and have none to come."""
    if scene.download is None:
        return ()
    devices = tuple(
        device
        for device, member in sorted(rollout.members.items())
        if member.admitted
        and (member.window is None or (member.window[1] <= now and scene.of(device).downloads))
    )
    return (Grant(devices, scene.download),) if devices else ()


def settle(rollout: Rollout, scene: Scene, now: float) -> tuple[Rollout, tuple[Action, ...]]:
    """Decide until nothing is left to do at this moment; return the rollout and what was done."""
    done: tuple[Action, ...] = ()
    for _ in range(ROUNDS):
        actions = decide(rollout, scene, now)
        if not actions:
            break
        rollout, done = apply(rollout, actions, now), done + actions
    return rollout, done


def order(rollout: Rollout, devices: Iterable[str]) -> list[str]:
    """Return devices in an order that is always the same for a rollout, and of no pattern."""
    return sorted(
        devices, key=lambda each: hashlib.sha256(f"{rollout.id} {each}".encode()).digest()
    )


def why_abort(rollout: Rollout, now: float) -> str:
    """Return why a rollout must stop by itself, or "": failures, silence among them, and time."""
    strategy = rollout.strategy
    standings = [member.standing for member in rollout.members.values()]
    failed = sum(each in FAILURES for each in standings)
    ended = failed + standings.count(Standing.UPDATED)
    if strategy.most_failures is not None:
        if failed >= strategy.most_failures:
            return f"{counted(failed, 'device')} failed; {strategy.most_failures} is the limit"
    elif failed >= strategy.least and failed > strategy.failure_rate * ended:
        share = f"{failed} of {counted(ended, 'device')}"
        return f"{share} failed; {strategy.failure_rate:.0%} is the limit"
    if strategy.after_s is not None and now - rollout.began_at > strategy.after_s:
        return f"not complete after {strategy.after_s:g} s"
    return ""


def give_up(rollout: Rollout, reason: str, *, revert: bool) -> Iterator[Action]:
    """End a rollout before all devices had it: by an abort, or by an operator."""
    yield Turn(State.REVERTING if revert else State.STOPPED, reason)
    yield from not_reached(rollout, "the rollout ended before its turn came")


def not_reached(rollout: Rollout, reason: str) -> Iterator[Action]:
    """Give those that still wait their outcome."""
    for device in sorted(rollout.members):
        if rollout.members[device].standing is Standing.WAITING:
            yield Move(device, Standing.NOT_REACHED, reason)


def _steer(rollout: Rollout, scene: Scene, now: float) -> Iterator[Action]:
    if rollout.state in {State.RUNNING, State.PAUSED}:
        reason = why_abort(rollout, now)
        if reason:
            yield from give_up(rollout, reason, revert=rollout.strategy.reverts)
            return
    match rollout.state:
        case State.RUNNING if rollout.step is Step.APPROVAL:
            if rollout.wave in rollout.approved:
                yield Enter(rollout.wave, Step.OPEN)
        case State.RUNNING:
            yield from _wave(rollout, scene, now)
        case State.COMPLETE:
            yield from _follow(rollout, scene, now)
        case State.REVERTING:
            yield from _revert(rollout, scene, now)
        case state if state in OVER:
            yield from not_reached(rollout, "the rollout ended before its turn came")


def _wave(rollout: Rollout, scene: Scene, now: float) -> Iterator[Action]:
    wave = rollout.strategy.waves[rollout.wave]
    chosen = _chosen(rollout, scene, wave)
    if chosen:
        if not _filled(rollout):
            yield Enter(rollout.wave, Step.OPEN, filled=True)
        yield Assign(chosen, rollout.wave)
        return
    if rollout.wave in rollout.promoted:
        yield from _advance(rollout)
        return
    own = {
        device: member
        for device, member in rollout.members.items()
        if member.wave == rollout.wave and member.standing not in UNCOUNTED
    }
    waiting = [device for device, member in own.items() if member.standing is Standing.WAITING]
    able = [device for device in waiting if _reachable(scene, device)]
    flying = [device for device, member in own.items() if member.standing is Standing.UPDATING]
    passed_s = now - rollout.wave_at if scene.open_s is None else scene.open_s
    if rollout.step is Step.OPEN and passed_s > wave.timeout_s and own:
        yield from _time_out(rollout, able, flying, waiting)
    elif able or flying:
        yield from _admit(rollout, scene, able, now)
    else:
        yield from _judge(rollout, wave, now)


def _chosen(rollout: Rollout, scene: Scene, wave: Wave) -> tuple[str, ...]:
    """Return devices to tell off for the wave: those left over by the ones before, and joiners."""
    free = [
        device
        for device, member in rollout.members.items()
        if member.standing is Standing.WAITING
        and (member.wave is None or member.wave < rollout.wave)
    ]
    if wave.rest:
        return tuple(order(rollout, free))
    if wave.selector is not None:
        return tuple(
            order(rollout, (each for each in free if rollout.wave in scene.of(each).waves))
        )
    if _filled(rollout):
        return ()
    total = sum(member.standing not in UNCOUNTED for member in rollout.members.values())
    # Those that cannot be reached now would prove nothing.
    ordered = sorted(order(rollout, free), key=lambda each: not _reachable(scene, each))
    return tuple(ordered[: wave.size(total)])


def _filled(rollout: Rollout) -> bool:
    return any(
        member.wave == rollout.wave and member.standing not in UNCOUNTED
        for member in rollout.members.values()
    )


def _reachable(scene: Scene, device: str) -> bool:
    sight = scene.of(device)
    return sight.present and sight.heard and not sight.obstacle


def _time_out(
    rollout: Rollout, able: list[str], flying: list[str], waiting: list[str]
) -> Iterator[Action]:
    reason = "the wave's time was over"
    for device in sorted(flying):
        yield Move(device, Standing.TIMED_OUT, reason)
    for device in sorted(able):
        yield Move(device, Standing.NOT_REACHED, f"{reason} before there was room for it")
    tried = _count(rollout, ADMITTED)
    if not tried and not flying and not able and waiting:
        why = f"no device of wave {rollout.wave + 1} could be reached in its time"
        yield from give_up(rollout, why, revert=rollout.strategy.reverts)
    elif not able and not flying:
        yield from _judge(rollout, rollout.strategy.waves[rollout.wave], None)


def _count(rollout: Rollout, standings: Iterable[Standing]) -> int:
    wanted = frozenset(standings)
    return sum(
        member.wave == rollout.wave and member.standing in wanted
        for member in rollout.members.values()
    )


def _admit(rollout: Rollout, scene: Scene, devices: list[str], now: float) -> Iterator[Action]:
    if not scene.window_open:
        return
    room = Room(rollout, scene, now)
    for device in order(rollout, devices):
        if room.take(device):
            yield Move(device, Standing.UPDATING)


def _judge(rollout: Rollout, wave: Wave, now: float | None) -> Iterator[Action]:
    """Hold a wave that has ended against its gate; `now` None: its time is over."""
    updated = _count(rollout, {Standing.UPDATED})
    tried = _count(rollout, {Standing.UPDATED, Standing.NOT_REACHED, *FAILURES})
    if not tried:
        others = any(
            member.wave != rollout.wave and member.standing not in UNCOUNTED
            for member in rollout.members.values()
        )
        waiting = _count(rollout, {Standing.WAITING})
        proven = any(each.standing is Standing.UPDATED for each in rollout.members.values())
        if (others and not waiting) or (proven and rollout.wave == rollout.last):
            yield from _advance(rollout)
        return
    if updated < wave.gate * tried - 1e-9:
        reason = (
            f"wave {rollout.wave + 1}: {updated} of {tried} run it; the gate is {wave.gate:.0%}"
        )
        yield from give_up(rollout, reason, revert=rollout.strategy.reverts)
    elif rollout.step is Step.OPEN and wave.soak_s > 0:
        yield Enter(rollout.wave, Step.SOAKING)
    elif rollout.step is Step.OPEN or now is None or now - rollout.wave_at >= wave.soak_s:
        yield from _advance(rollout)


def _advance(rollout: Rollout) -> Iterator[Action]:
    if rollout.wave == rollout.last:
        yield Turn(State.COMPLETE, "")
        return
    number = rollout.wave + 1
    waits = rollout.strategy.waves[number].approve and number not in rollout.approved
    yield Enter(number, Step.APPROVAL if waits else Step.OPEN)


def _follow(rollout: Rollout, scene: Scene, now: float) -> Iterator[Action]:
    """Let devices in that joined, or came back, after all gates were passed."""
    waiting = [
        device for device, member in rollout.members.items() if member.standing is Standing.WAITING
    ]
    unassigned = [each for each in waiting if rollout.members[each].wave != rollout.last]
    if unassigned:
        yield Assign(tuple(order(rollout, unassigned)), rollout.last)
    elif not failing(rollout):
        able = [device for device in waiting if _reachable(scene, device)]
        yield from _admit(rollout, scene, able, now)


def failing(rollout: Rollout) -> bool:
    """Say whether so many devices of a complete rollout failed that none may follow."""
    return bool(why_abort(rollout, rollout.began_at))


def _revert(rollout: Rollout, scene: Scene, now: float) -> Iterator[Action]:
    room = Room(rollout, scene, now)
    changed = [device for device, member in rollout.members.items() if member.admitted]
    if not changed and not any(
        member.standing is Standing.REVERTING for member in rollout.members.values()
    ):
        yield Turn(State.REVERTED, rollout.reason)
        return
    for device in order(rollout, changed):
        if room.take(device):
            member = rollout.members[device]
            why = f"{member.standing.value}: {member.reason}" if member.reason else ""
            yield Move(device, Standing.REVERTING, why or member.standing.value)
