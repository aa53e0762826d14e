"""What holds a rollout up: never silence, always a sentence."""

import datetime as dt

from sqlmodel import Session

from cloud import tables
from cloud.rollouts import rows, sights, troubles, windows
from cloud.rollouts.budgets import Room, unavailable
from cloud.rollouts.state import IN_FLIGHT, Rollout, Scene, Standing, State, Step
from runtime.wording import counted

MOST = 20
"""Sentences of one kind."""


def blocked(session: Session, row: tables.Rollout, *, lease_s: float, now: float) -> list[str]:
    """Return why a rollout is not further; nothing if it is over or waits for nothing."""
    found = troubles.said(row, now)
    if row.state not in rows.OPEN_STATES:
        return found
    rollout = rows.read(session, row)
    about = sights.subject(session, row, rollout)
    return found + why(rollout, sights.scene(session, about, lease_s=lease_s, now=now), now)


def why(rollout: Rollout, scene: Scene, now: float) -> list[str]:
    """Return the sentences."""
    found: list[str] = []
    number = f"wave {rollout.wave + 1} of {rollout.last + 1}"
    if rollout.state is State.PAUSED:
        found.append("it is paused: `packhorse rollouts resume` goes on")
    if rollout.state is State.RUNNING and rollout.step is Step.APPROVAL:
        found.append(f"{number} waits for approval: `packhorse rollouts approve`")
    if rollout.state is State.RUNNING and rollout.step is Step.SOAKING:
        left = rollout.wave_at + rollout.strategy.waves[rollout.wave].soak_s - now
        found.append(f"{number} soaks for {max(0.0, left):.0f} s more")
    if not scene.window_open:
        found.append(f"no update window is open; the next begins {_next(rollout, now)}")
    if not rollout.members:
        found.append("no device matches the target yet")
    return found + _of_devices(rollout, scene, now)


def _next(rollout: Rollout, now: float) -> str:
    at = windows.next_begin(rollout.strategy.update, now)
    return "never" if at is None else dt.datetime.fromtimestamp(at, tz=dt.UTC).isoformat()


def _of_devices(rollout: Rollout, scene: Scene, now: float) -> list[str]:
    waiting = {
        device: scene.of(device)
        for device, member in sorted(rollout.members.items())
        if member.standing is Standing.WAITING and member.wave in {None, rollout.wave}
    }
    obstacles = [f"{device}: {each.obstacle}" for device, each in waiting.items() if each.obstacle]
    away = [device for device, each in waiting.items() if each.present and not each.heard]
    found = obstacles[:MOST]
    if away:
        unheard = counted(
            len(away),
            "device is not heard of and gets it when it is",
            "devices are not heard of and get it when they are",
        )
        found.append(f"{unheard}: {', '.join(away[:MOST])}")
    flying = [d for d, member in rollout.members.items() if member.standing in IN_FLIGHT]
    if flying:
        found.append(counted(len(flying), "device is on its way", "devices are on their way"))
    return found + starved(rollout, scene, [d for d in waiting if d not in away], now)


def starved(rollout: Rollout, scene: Scene, waiting: list[str], now: float) -> list[str]:
    """Say where the budget is used up, and by which devices."""
    budget = rollout.strategy.budget
    if budget is None:
        return []
    room, found = Room(rollout, scene, now), []
    for group in sorted({scene.of(device).group for device in waiting}):
        if room.used[group] < room.most(group):
            continue
        holders = [
            device
            for device, member in sorted(rollout.members.items())
            if scene.of(device).group == group
            and unavailable(rollout, member, scene.of(device), now)
        ]
        where = f"{budget.by}={group}: " if budget.by else ""
        found.append(
            f"{where}starved by the budget of {room.most(group)}: "
            f"{', '.join(holders[:MOST])} unavailable"
        )
    return found
