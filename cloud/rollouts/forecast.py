"""How a rollout would go if devices did as they are told: real decisions, made-up devices. Pure.

Somebody approves at once; windows are waited for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cloud.rollouts import decide, windows
from cloud.rollouts.state import Member, Progress, Rollout, Scene, Sight, Standing, State, Step
from cloud.rollouts.strategy import Strategy

MOST_TURNS = 2000
FINENESS = 10
"""Devices that end within such a part of the shortest update are taken to end together."""


@dataclass(frozen=True)
class Need:
    """What a device is taken to need from its turn to its word that it runs."""

    seconds: float
    downloads: bool = True
    """Whether it waits for download windows."""


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


@dataclass
class _Course:
    """A rollout that is played through."""

    made: Rollout
    sights: Mapping[str, Sight]
    needs: Mapping[str, Need]
    tick_s: float
    ends: dict[tuple[str, float], float | None] = field(default_factory=dict)

    def scene(self, at: float) -> Scene:
        """Return what would be seen."""
        seen = {
            device: replace(
                sight,
                heard_at=at if sight.heard else sight.heard_at,
                progress=self._progress(device, at),
                superseded="",
                reason="",
            )
            for device, sight in self.sights.items()
        }
        strategy = self.made.strategy
        return Scene(
            seen,
            window_open=windows.is_open(strategy.update, at),
            open_s=windows.counted_s(strategy, self.made.wave_at, at),
        )

    def _progress(self, device: str, at: float) -> Progress:
        member = self.made.members[device]
        if member.standing is Standing.UPDATED:
            return Progress.RUNNING
        if member.standing is not Standing.UPDATING:
            return Progress.QUIET
        end = self._end(device, member)
        return Progress.RUNNING if end is not None and end <= at else Progress.SWITCHING

    def _end(self, device: str, member: Member) -> float | None:
        """Return when a device that is on its way would run it; None: never."""
        key = device, member.since
        if key not in self.ends:
            need = self.needs[device]
            listed = self.made.strategy.download if need.downloads else ()
            self.ends[key] = windows.after(listed, member.since, need.seconds)
        return self.ends[key]

    def next(self, at: float, *, open_now: bool) -> float | None:
        """Return when something happens next; None: never."""
        made = self.made
        flying = [
            self._end(device, member)
            for device, member in made.members.items()
            if member.standing is Standing.UPDATING
        ]
        coming = [end for end in flying if end is not None]
        if coming:
            return max(at + self.tick_s, min(coming))
        if made.step is Step.SOAKING:
            return max(at + 1.0, made.wave_at + made.strategy.waves[made.wave].soak_s)
        return None if open_now else windows.next_begin(made.strategy.update, at)


def forecast(
    strategy: Strategy, sights: Mapping[str, Sight], needs: Mapping[str, Need], now: float
) -> Forecast:
    """Return how it would go; devices that are not heard of, or in conflict, stay away."""
    first = Step.APPROVAL if strategy.waves[0].approve else Step.OPEN
    members = {device: Member(since=now) for device in sights}
    made = Rollout("plan", strategy, began_at=now, step=first, wave_at=now, members=members)
    shortest_s = min((need.seconds for need in needs.values()), default=1.0)
    course = _Course(made, sights, needs, shortest_s / FINENESS)
    at, approvals, waited = now, 0, False
    for _ in range(MOST_TURNS):
        scene = course.scene(at)
        course.made, _actions = decide.settle(course.made, scene, at)
        if course.made.state is not State.RUNNING:
            break
        if course.made.step is Step.APPROVAL:
            approvals += 1
            approved = course.made.approved | {course.made.wave}
            course.made = replace(course.made, approved=approved)
            continue
        later = course.next(at, open_now=scene.window_open)
        waited = waited or not scene.window_open or not windows.is_open(strategy.download, at)
        if later is None:
            break
        at = later
    return _told(course.made, at - now, approvals, waited=waited)


def _told(made: Rollout, seconds: float, approvals: int, *, waited: bool) -> Forecast:
    sizes = [0] * len(made.strategy.waves)
    for member in made.members.values():
        if member.standing is Standing.UPDATED and member.wave is not None:
            sizes[member.wave] += 1
    done = made.state is State.COMPLETE
    return Forecast(tuple(sizes), seconds if done else None, approvals, waited)
