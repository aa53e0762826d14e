"""Rollouts as values, and devices that do as they are told, badly, or not at all."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from cloud.rollouts import decide
from cloud.rollouts.state import (
    Action,
    Member,
    Progress,
    Rollout,
    Scene,
    Sight,
    Standing,
    apply,
)
from cloud.rollouts.strategy import Strategy, Wave

DAY_S = 86400.0


def wave(**fields: Any) -> Wave:
    """Return a wave that wants nine of ten, and no soak."""
    return Wave(**({"gate": 0.9, "soak_s": 0.0, "timeout_s": DAY_S} | fields))


def strategy(*waves: Wave, **fields: Any) -> Strategy:
    """Return a strategy with these waves and the rest."""
    return Strategy(waves=(*waves, wave()), **fields)


@dataclass
class Device:
    """A pretended device; a fate says what becomes of an update: good, refuse, silent or slow."""

    fate: str = "good"
    group: str = ""
    heard: bool = True
    present: bool = True
    heard_at: float | None = None
    told: bool = False
    progress: Progress = Progress.QUIET
    back: bool = True
    obstacle: str = ""
    superseded: str = ""
    waves: frozenset[int] = frozenset()

    def live(self, *, admitted: bool, now: float) -> None:
        """Do what a device does between two looks at it."""
        if admitted != self.told:
            self.told, self.back = admitted, False
            self.progress = Progress.QUIET
            if admitted and self.fate == "silent":
                self.heard = False
        elif self.heard and not admitted:
            self.back = True
        elif self.heard and self.fate != "slow":
            self.progress = {
                Progress.QUIET: Progress.MOVING,
                Progress.MOVING: Progress.REFUSED if self.fate == "refuse" else Progress.RUNNING,
            }.get(self.progress, self.progress)
        if self.heard:
            self.heard_at = now

    def sight(self) -> Sight:
        """Return what the registry sees of it."""
        return Sight(
            present=self.present,
            heard=self.heard,
            heard_at=self.heard_at,
            progress=self.progress,
            back=self.back,
            group=self.group,
            obstacle=self.obstacle,
            superseded=self.superseded,
            waves=self.waves,
        )


@dataclass
class World:
    """A rollout, its devices and the time."""

    rollout: Rollout
    devices: dict[str, Device]
    now: float = 1000.0
    window_open: bool = True
    done: list[Action] = field(default_factory=list)

    def scene(self) -> Scene:
        """Return what is seen now."""
        sights = {name: device.sight() for name, device in self.devices.items()}
        return Scene(sights, window_open=self.window_open)

    def look(self) -> tuple[Action, ...]:
        """Decide once; return what was done."""
        actions = decide.decide(self.rollout, self.scene(), self.now)
        self.rollout = apply(self.rollout, actions, self.now)
        self.done += actions
        return actions

    def join(self, name: str, device: Device) -> None:
        """Have one more device match the target."""
        self.devices[name] = device
        members = {**self.rollout.members, name: Member(since=self.now)}
        self.rollout = replace(self.rollout, members=members)

    def turn(self, seconds: float = 1.0) -> None:
        """Let devices and time go on, then decide until nothing is left to do."""
        self.now += seconds
        for name, device in self.devices.items():
            device.live(admitted=self.rollout.members[name].admitted, now=self.now)
        while self.look():
            pass

    def turns(self, count: int = 10, seconds: float = 1.0) -> "World":
        """Take so many turns."""
        for _ in range(count):
            self.turn(seconds)
        return self

    def standing(self, name: str) -> Standing:
        """Return where a device is."""
        return self.rollout.members[name].standing

    def where(self, standing: Standing) -> set[str]:
        """Return the devices of a standing."""
        return {name for name, each in self.rollout.members.items() if each.standing is standing}


def world(plan: Strategy, devices: dict[str, Device] | Iterable[str], **fields: Any) -> World:
    """Return a world with a rollout that has just been made."""
    made = devices if isinstance(devices, dict) else {name: Device() for name in devices}
    members = {name: Member(since=1000.0) for name in made}
    rollout = Rollout("rol-1", plan, began_at=1000.0, wave_at=1000.0, members=members, **fields)
    for device in made.values():
        device.heard_at = 1000.0 if device.heard else None
    return World(rollout, dict(made))
