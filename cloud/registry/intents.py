"""Which deployment decides what a module of a device runs. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from cloud.registry import selectors
from runtime.messages import ModuleSpec


@dataclass(frozen=True)
class Target:
    """A device, as far as selection goes."""

    id: str
    labels: Mapping[str, str]
    facts: Mapping[str, str]
    revoked: bool = False

    @property
    def attributes(self) -> dict[str, str]:
        """What selectors see: facts, labels over them, and the id as `device`."""
        return {**self.facts, **self.labels, "device": self.id}


@dataclass(frozen=True)
class Admission:
    """How a rollout has let a device in."""

    retries: int = 0
    window: tuple[float, float] | None = None
    """From when to when it may download; None: at any time."""


_AT_ONCE = Admission()


@dataclass(frozen=True)
class Intent:
    """An active deployment: `spec`, on every device that `selector` matches."""

    sequence: int
    """The highest of a line wins."""
    selector: str
    spec: ModuleSpec
    priority: int = 0
    line: str = ""
    """Deployments of one line follow one another; "": that of the module."""
    rollout: str | None = None
    admitted: Mapping[str, Admission] | None = None
    """Devices that a rollout has let in; None: all."""
    live: bool = True
    """Whether it may still let devices in."""

    @property
    def called(self) -> str:
        """The line: a name of documents, or the module."""
        return self.line or self.spec.name

    def selects(self, device: Target) -> bool:
        """Say whether this deployment wants the device, be it outdone by another or not."""
        return not device.revoked and selectors.parse(self.selector).matches(device.attributes)

    def admits(self, device: Target) -> bool:
        """Say whether the device's turn has come."""
        return (self.admitted is None or device.id in self.admitted) and self.selects(device)

    def spec_for(self, device: Target) -> ModuleSpec:
        """Return what this device is told: a retry is a new attempt.

        A rollout that is over gives no more windows: a device that goes back to it needs none.
        """
        own = (self.admitted or {}).get(device.id, _AT_ONCE)
        if own == _AT_ONCE:
            return self.spec
        changes: dict[str, Any] = {"attempt": self.spec.attempt + own.retries}
        if own.window is not None and self.live:
            changes["not_before"], changes["not_after"] = own.window
        return msgspec.structs.replace(self.spec, **changes)


@dataclass(frozen=True)
class Contest:
    """Who claims a module of a device, and who decides."""

    leaders: tuple[Intent, ...]
    """The newest of each line among those of the highest priority."""

    @property
    def winner(self) -> Intent | None:
        """Who decides; None if it is a conflict, which only people can resolve."""
        return self.leaders[0] if len(self.leaders) == 1 else None


def contests(device: Target, deployments: Iterable[Intent]) -> dict[str, Contest]:
    """Return for each module who claims it: the highest priority, then the newest of a line."""
    leading: dict[str, dict[str, Intent]] = {}
    for intent in deployments:
        if not intent.admits(device):
            continue
        present = leading.get(intent.spec.name, {})
        top = max((each.priority for each in present.values()), default=intent.priority)
        if intent.priority < top:
            continue
        lines = {} if intent.priority > top else present
        rival = lines.get(intent.called)
        if rival is None or intent.sequence > rival.sequence:
            lines = {**lines, intent.called: intent}
        leading[intent.spec.name] = lines
    return {
        module: Contest(tuple(sorted(lines.values(), key=lambda each: each.sequence)))
        for module, lines in leading.items()
    }


def winners(device: Target, deployments: Iterable[Intent]) -> dict[str, Intent]:
    """Return for each module which deployment decides it; a conflict is decided by none."""
    return {
        module: contest.winner
        for module, contest in contests(device, deployments).items()
        if contest.winner is not None
    }


def desired_for(
    device: Target, deployments: Iterable[Intent], held: Iterable[ModuleSpec] = ()
) -> tuple[ModuleSpec, ...]:
    """Return what the device shall run, modules in the order of their names.

    `held` is what it shall run so far: where deployments are in conflict, it keeps that.
    """
    kept = {spec.name: spec for spec in held}
    wanted: list[ModuleSpec] = []
    for module, contest in sorted(contests(device, deployments).items()):
        winner = contest.winner
        if winner is not None:
            wanted.append(winner.spec_for(device))
        elif module in kept:
            wanted.append(kept[module])
    return tuple(wanted)
