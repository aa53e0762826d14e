"""A rollout as a value, and the actions that change it. Pure.

    running ──► complete        every wave passed its gate; devices that join later follow
       │  ▲                     (a later document of the same name makes it superseded)
       ▼  │ resume
    paused                      nobody new; what is under way goes on, and may still abort
       │
       ├─ abort, revert ──► reverting ──► reverted
       ├─ abort, on_abort: stop ────────► stopped
       ├─ cancel ───────────────────────► cancelled
       └─ a newer document ─────────────► superseded

A device ends with exactly one outcome (`ENDED`). `waiting` and `not_reached` are the standings of
devices that were not changed; `admitted` says for all others whether they still want this.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cloud.rollouts.strategy import Span, Strategy


class State(enum.Enum):
    """Where a rollout is."""

    RUNNING = "running"
    PAUSED = "paused"
    REVERTING = "reverting"
    COMPLETE = "complete"
    STOPPED = "stopped"
    REVERTED = "reverted"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class Step(enum.Enum):
    """What its present wave is doing."""

    APPROVAL = "approval"
    """Somebody must approve before it begins."""
    OPEN = "open"
    SOAKING = "soaking"


class Standing(enum.Enum):
    """Where a device is with a rollout."""

    WAITING = "waiting"
    UPDATING = "updating"
    UPDATED = "updated"
    FAILED = "failed"
    """It refused it; what it ran before runs on."""
    SILENT = "silent"
    """It was told, and is not heard of."""
    TIMED_OUT = "timed_out"
    SUPERSEDED = "superseded"
    """Another deployment decides there now."""
    GONE = "gone"
    """Revoked, or the target no longer matches it."""
    NOT_REACHED = "not_reached"
    """The rollout ended before its turn came."""
    REVERTING = "reverting"
    REVERTED = "reverted"
    REVERT_UNSEEN = "revert_unseen"
    """It shall run what it ran before again, and has not said that it does."""


ADMITTED = frozenset(
    {
        Standing.UPDATING,
        Standing.UPDATED,
        Standing.FAILED,
        Standing.SILENT,
        Standing.TIMED_OUT,
    }
)
"""Standings of devices whose desired state has this rollout in it."""
IN_FLIGHT = frozenset({Standing.UPDATING, Standing.REVERTING})
FAILURES = frozenset({Standing.FAILED, Standing.SILENT, Standing.TIMED_OUT})
UNCOUNTED = frozenset({Standing.SUPERSEDED, Standing.GONE})
"""They say nothing about the version."""
ENDED = frozenset(Standing) - IN_FLIGHT - {Standing.WAITING}
MOVING = frozenset({State.RUNNING, State.PAUSED, State.REVERTING})
OVER = frozenset({State.STOPPED, State.REVERTED, State.CANCELLED, State.SUPERSEDED})
"""Nobody is admitted any more."""


class Progress(enum.Enum):
    """What a device says of all modules of a rollout together."""

    QUIET = "quiet"
    """Nothing yet."""
    MOVING = "moving"
    SWITCHING = "switching"
    """It is being checked there: too late to take it back unseen."""
    RUNNING = "running"
    REFUSED = "refused"


@dataclass(frozen=True)
class Sight:
    """What is known of a device now."""

    present: bool = True
    """Enrolled, and matched by the target."""
    heard: bool = True
    heard_at: float | None = None
    progress: Progress = Progress.QUIET
    retrying: bool = False
    """It has trouble and tries again by itself."""
    back: bool = False
    """It has taken over its newest desired state and says that all of that is settled."""
    group: str = ""
    """Its value of the budget's label."""
    waves: frozenset[int] = frozenset()
    """Waves whose selector matches it."""
    obstacle: str = ""
    """Why it may not be admitted: a conflict."""
    superseded: str = ""
    """What decides in place of this rollout."""
    reason: str = ""
    downloads: bool = False
    """It may still have something to download."""


UNSEEN = Sight(present=False, heard=False)


@dataclass(frozen=True)
class Member:
    """A device of a rollout; what is durable of it."""

    standing: Standing = Standing.WAITING
    since: float = 0.0
    wave: int | None = None
    retries: int = 0
    reason: str = ""
    admitted_at: float | None = None
    """When its turn came; None: it has not."""
    window: Span | None = None
    """From when to when it may download; None: it need not wait."""

    @property
    def admitted(self) -> bool:
        """Whether its desired state has this rollout in it."""
        return self.standing in ADMITTED


@dataclass(frozen=True)
class Rollout:
    """All that decisions rest on, beside what is seen of devices."""

    id: str
    strategy: Strategy
    state: State = State.RUNNING
    began_at: float = 0.0
    wave: int = 0
    step: Step = Step.OPEN
    wave_at: float = 0.0
    """When the wave's present step began."""
    reason: str = ""
    approved: frozenset[int] = frozenset()
    promoted: frozenset[int] = frozenset()
    """Waves that somebody ended early."""
    members: Mapping[str, Member] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The number of the last wave."""
        return len(self.strategy.waves) - 1


@dataclass(frozen=True)
class Scene:
    """What is seen at one moment."""

    sights: Mapping[str, Sight]
    window_open: bool = True
    open_s: float | None = None
    """For how long since the wave began devices could be updated; None: all the time."""
    download: Span | None = None
    """The download window that is open, or else the next; None: there are none."""

    def of(self, device: str) -> Sight:
        """Return what is known of a device."""
        return self.sights.get(device, UNSEEN)


@dataclass(frozen=True)
class Move:
    """A device comes to another standing. ADMITTED or not follows from that."""

    device: str
    to: Standing
    reason: str = ""
    retry: bool = False
    """It gets more time for the same."""


@dataclass(frozen=True)
class Assign:
    """Devices are told off for a wave."""

    devices: tuple[str, ...]
    wave: int


@dataclass(frozen=True)
class Enter:
    """The rollout comes to a wave, or to another step of it."""

    wave: int
    step: Step
    reason: str = ""
    filled: bool = False
    """Whether it has got its first devices: its time begins then."""


@dataclass(frozen=True)
class Grant:
    """Devices may download from then to then."""

    devices: tuple[str, ...]
    window: Span


@dataclass(frozen=True)
class Turn:
    """The rollout comes to another state."""

    to: State
    reason: str


Action = Move | Assign | Grant | Enter | Turn


def apply(rollout: Rollout, actions: tuple[Action, ...], now: float) -> Rollout:
    """Return what a rollout is after these actions."""
    if not actions:
        return rollout
    members = dict(rollout.members)
    for action in actions:
        match action:
            case Move():
                members[action.device] = _moved(members[action.device], action, now)
            case Assign():
                for device in action.devices:
                    members[device] = replace(members[device], wave=action.wave)
            case Grant():
                for device in action.devices:
                    members[device] = replace(members[device], window=action.window)
            case Enter():
                changed = {"wave": action.wave, "step": action.step, "reason": action.reason}
                rollout = replace(rollout, wave_at=now, **changed)  # type: ignore[arg-type]
            case Turn():
                rollout = replace(rollout, state=action.to, reason=action.reason)
    return replace(rollout, members=members)


def _moved(member: Member, action: Move, now: float) -> Member:
    wave = None if action.to is Standing.WAITING and not member.admitted else member.wave
    admitted_at, window = member.admitted_at, member.window
    if not member.admitted:
        admitted_at = now if action.to is Standing.UPDATING else admitted_at
    elif action.to not in ADMITTED:
        admitted_at = window = None
    return replace(
        member,
        standing=action.to,
        since=now,
        reason=action.reason,
        retries=member.retries + action.retry,
        wave=wave,
        admitted_at=admitted_at,
        window=window,
    )
