"""Where a device is with a deployment, and why it is not further. Pure.

What is not known is never called healthy: a device counts as running this only after it said so
itself, for this deployment and attempt, and as healthy only while it is also heard of.
"""

import enum
from dataclasses import dataclass

from runtime import messages
from runtime.candidates import CandidateReport
from runtime.messages import ModuleReport, Phase, Reported, RunningVersion


class Presence(enum.Enum):
    """Whether the registry hears of a device."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"
    """Never seen, or silent for longer than its lease."""


class Stage(enum.Enum):
    """Where a device is with a deployment: the phases that devices report, and those before."""

    WAITING = "waiting"
    """The device has not said anything about this yet."""
    FETCHING = "fetching"
    VERIFYING = "verifying"
    STAGED = "staged"
    CHECKING = "checking"
    RUNNING = "running"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    """Another deployment decides this module on this device."""
    CONFLICT = "conflict"
    """Another deployment of the same priority claims it too: the device keeps what it has."""


@dataclass(frozen=True)
class Wanted:
    """What a deployment wants of a device."""

    deployment: str
    bundle: str
    module: str
    attempt: int
    candidate: str = ""
    """Bundle of its candidate: a device may have promoted that by itself."""


@dataclass(frozen=True)
class View:
    """What the registry knows of a device. Times are seconds since 1970, registry clock."""

    device: str
    online: bool | None
    lease_s: float
    last_seen: float | None
    generation: int
    """Of its desired state."""
    published_generation: int
    reported: Reported | None
    reported_at: float | None
    winner: str
    """Id of the deployment that decides the module; "": none."""
    held: str = ""
    """Why a rollout has not let the device in."""
    conflict: str = ""
    """Which deployments claim the module with the same priority."""


@dataclass(frozen=True)
class DeviceState:
    """The answer."""

    device: str
    stage: Stage
    reason: str
    """Empty only when it runs and is online."""
    age_s: float | None
    """How long ago the device last reported."""
    presence: Presence
    running: RunningVersion | None
    """What answers inference on it, as last reported."""
    generation_lag: int
    retrying: bool
    """It failed, or waits, but tries again by itself."""
    candidate: CandidateReport | None = None
    """How far the deployment's candidate is on it, as last reported."""

    @property
    def converged(self) -> bool:
        """It said that it runs this."""
        return self.stage is Stage.RUNNING

    @property
    def healthy(self) -> bool:
        """It runs this, and is heard of."""
        return self.converged and self.presence is Presence.ONLINE

    @property
    def gave_up(self) -> bool:
        """It will not get further by itself."""
        return self.stage is Stage.CONFLICT or (self.stage is Stage.FAILED and not self.retrying)


def presence(
    *, online: bool | None, last_seen: float | None, lease_s: float, now: float
) -> Presence:
    """Return whether a device is heard of."""
    if online is False:
        return Presence.OFFLINE
    if online is None or last_seen is None or now > last_seen + lease_s:
        return Presence.UNKNOWN
    return Presence.ONLINE


def explain(wanted: Wanted, view: View, *, now: float) -> DeviceState:
    """Return where a device is with a deployment, and why."""
    heard = presence(online=view.online, last_seen=view.last_seen, lease_s=view.lease_s, now=now)
    module = _module(view.reported, wanted.module)
    seen = view.reported.generation if view.reported is not None else 0
    stage, reason, retrying = _stage(wanted, view, module, heard, now)
    return DeviceState(
        device=view.device,
        stage=stage,
        reason=reason,
        age_s=None if view.reported_at is None else max(0.0, now - view.reported_at),
        presence=heard,
        running=None if module is None else module.running,
        generation_lag=max(0, view.generation - seen),
        retrying=retrying,
        candidate=module.candidate if module is not None and _speaks_of(module, wanted) else None,
    )


def _stage(
    wanted: Wanted, view: View, module: ModuleReport | None, heard: Presence, now: float
) -> tuple[Stage, str, bool]:
    if view.held:
        return Stage.WAITING, view.held, False
    if view.conflict:
        fix = "cancel one, or give one a priority"
        return Stage.CONFLICT, f"{view.conflict} claim it with the same priority: {fix}", False
    if view.winner != wanted.deployment:
        return Stage.SUPERSEDED, f"superseded by {view.winner} on this device", False
    if module is None or not _speaks_of(module, wanted):
        if module is not None and _by_hand(module, view):
            what = f"{module.model}:{module.version} was applied by hand on the device"
            return Stage.WAITING, f"{what}: retry this deployment to replace it", False
        return Stage.WAITING, _why_waiting(view, heard, now), True
    stage = Stage(module.phase.value)
    # A device that runs it has nothing to add; one that cannot be heard may run it no more.
    reasons = [module.reason] if module.phase is not Phase.RUNNING else []
    if module.progress is not None and not module.reason:
        reasons.append(f"{module.progress.done_bytes} of {module.progress.total_bytes} bytes")
    if heard is not Presence.ONLINE:
        reasons.append(f"as last reported; {_silence(view, heard, now)}")
    return stage, "; ".join(filter(None, reasons)), module.retrying


def _by_hand(module: ModuleReport, view: View) -> bool:
    """Say whether somebody at the device has set aside what the registry wants there."""
    seen = view.reported.generation if view.reported is not None else 0
    return module.deployment == messages.BY_HAND and seen >= view.generation


def _speaks_of(module: ModuleReport, wanted: Wanted) -> bool:
    same = (module.deployment, module.attempt) == (wanted.deployment, wanted.attempt)
    return same and module.bundle in {wanted.bundle, wanted.candidate}


def _module(reported: Reported | None, name: str) -> ModuleReport | None:
    modules = () if reported is None else reported.modules
    return next((module for module in modules if module.name == name), None)


def _why_waiting(view: View, heard: Presence, now: float) -> str:
    if heard is not Presence.ONLINE:
        return _silence(view, heard, now)
    if view.published_generation < view.generation:
        return "not yet handed to the broker"
    seen = view.reported.generation if view.reported is not None else 0
    if seen < view.generation:
        return f"sent; the device has taken over generation {seen} of {view.generation}"
    return "the device has not begun yet"


def _silence(view: View, heard: Presence, now: float) -> str:
    if view.last_seen is None:
        return "the device has never connected"
    ago = duration(max(0.0, now - view.last_seen))
    if heard is Presence.OFFLINE:
        return f"device offline, last heard of {ago} ago"
    return f"no word from the device for {ago}"


def duration(seconds: float) -> str:
    """Return a length of time as people say it: 42 s, 5 min, 3 h, 2 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
