"""`packhorse simulate`: a fleet from its enrolment to the second version, and the account of it.

own registry     enrol all ─► serve ─► devices connect ─► deploy 1 ─► deploy 2 ─► account
--registry URL   devices enrol by token ─► they run whatever is deployed to them ─► account
"""

import functools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud import shapes
from cloud.cli.pushing import push
from cloud.client import Client
from cloud.simulation import bundles, enrolling, plan, report, weather
from cloud.simulation.crowd import Crowd
from cloud.simulation.report import Books, Times
from cloud.simulation.stage import Stage
from cloud.simulation.weather import Weather
from runtime import files
from runtime.digests import Digest
from runtime.simulated import FAILING_CHECK, REBOOT_STORM, Count, Fleet, Member
from runtime.wording import counted

LABELS = {"site": "simulated"}
SELECTOR = "site=simulated"
SOAK_S = 1.0
TOLD_EVERY_S, LOOK_S = 2.0, 0.2
SETTLED_S = 3.0
"""With a registry of others: all is over when all devices have run what they shall for so long."""
QUIET_S = 10.0
"""So long at most a deployment waits until the one before is all told."""
ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
)  # fmt: skip
"""What the times of each deployment are told by."""
CONNECTS_PER_S = 200.0
"""First connections of the whole fleet are spread to about so many each second."""


@dataclass(frozen=True)
class Wish:
    """What to simulate."""

    devices: int
    profiles: dict[str, float]
    seed: int = 0
    processes: int | None = None
    timeout_s: float = 300.0
    heartbeat_s: float = 30.0
    registry: str | None = None
    """URL of a registry that is there already; None: one of its own."""
    tokens: tuple[str, ...] = ()
    """For it, one for each device."""
    restarts: tuple[str, ...] = ()
    """What of an own registry is killed in the middle of the second deployment: see weather."""
    records_per_s: float = 0.0
    deployments: int = 2
    """Versions deployed one after the other, 2 to 10; only with an own registry."""


def run(
    wish: Wish, say: Callable[[str], None], *, before: Callable[[str], None] = lambda _name: None
) -> dict[str, Any]:
    """Simulate; return the result. Raises PackhorseError if it could not be done at all.

    `say` is told, for a person, how far it is; `before`, the name of each deployment of an own
    registry before it is made, and before what the devices still have to say is waited for.
    """
    with tempfile.TemporaryDirectory(prefix="packhorse-simulate-") as name:
        place = Path(name)
        return _Run(wish, place, say, before).go()


class _Run:
    """One simulation."""

    def __init__(
        self, wish: Wish, place: Path, say: Callable[[str], None], before: Callable[[str], None]
    ) -> None:
        self._wish, self._place, self._say, self._before = wish, place, say, before
        self._names = plan.names(wish.devices)
        self._profiles = plan.assign(self._names, wish.profiles, wish.seed)
        self._began = time.monotonic()
        self._deadline = self._began + wish.timeout_s
        self._told_at = 0.0
        self._times = Times()
        self._weather = Weather([], lambda _what: None)
        self._deployments: list[str] = []

    def go(self) -> dict[str, Any]:
        """Do all of it."""
        if self._wish.registry is not None:
            return self._elsewhere(self._wish.registry)
        with Stage(self._place) as stage:
            devices = self._place / "devices"
            self._say(f"enrolling {counted(len(self._names), 'device')}")
            enrolling.enrol(stage.settings, self._names, LABELS, devices)
            found = stage.start()
            enrolling.tell_place(self._names, devices, url=found.url, broker_port=found.broker_port)
            with stage.client(found.url) as registry, self._crowd(found.url) as crowd:
                self._weather = self._forecast(crowd, stage)
                wanted = self._play(stage, registry, crowd)
                return self._end(stage, crowd, wanted)

    def _forecast(self, crowd: Crowd, stage: Stage | None) -> Weather:
        doing: dict[str, Callable[[], None]] = {weather.STORM: crowd.storm}
        if stage is not None:
            doing |= {weather.BROKER: stage.kill_broker, weather.REGISTRY: stage.restart}

        def do(what: str) -> None:
            self._say(f"{time.monotonic() - self._began:6.1f} s  {what}!")
            doing[what]()

        storms = self._wish.profiles.get(REBOOT_STORM, 0.0) > 0
        return Weather(weather.plan(self._wish.restarts, storms=storms), do)

    def _play(self, stage: Stage, registry: Client, crowd: Crowd) -> Digest:
        """Deploy the first version, then the others; return the last one's bundle."""
        count = len(self._names)
        versions = [
            push(registry, bundles.write(self._place / f"bundle-{number}", number, self._wish.seed))
            for number in range(1, self._wish.deployments + 1)
        ]
        self._wait(crowd, lambda now: now.met >= count * 0.99, "connected")
        stage.acknowledged(self._deadline, crowd.count)
        for name, version in zip(ORDINALS, versions, strict=False):
            self._before(name)
            self._quiet(crowd)
            if name == "second":
                self._weather.begin()
            began = self._deploy(stage, registry, crowd, name, version.version)
            bundle = Digest(version.bundle)
            goal = count if name == "first" else count - self._will_refuse()
            if self._wait(crowd, functools.partial(_ran, bundle, goal), f"run {name}"):
                self._times.converged_s[name] = time.monotonic() - began
            self._await_finals(stage, crowd)
        return bundle

    def _await_finals(self, stage: Stage, crowd: Crowd) -> None:
        """Let every device tell the end of each deployment made so far."""
        pause, wanted = threading.Event(), len(self._names) * len(self._deployments)
        while len(stage.finals()) < wanted and time.monotonic() < self._deadline:
            self._tell(crowd.count(), "all have told the end of it")
            pause.wait(LOOK_S)

    def _deploy(
        self, stage: Stage, registry: Client, crowd: Crowd, name: str, version: int
    ) -> float:
        """Deploy, and wait until all have acknowledged; return when that began."""
        began = time.monotonic()
        with stage.noting_change(self._names[0]) as stored:
            wish = shapes.NewDeployment(
                model=bundles.MODEL, version=version, selector=SELECTOR, soak_s=SOAK_S
            )
            self._deployments.append(registry.deploy(wish).id)
            tick = self._ticker(crowd, f"{name} version")
            done = stage.acknowledged(self._deadline, tick)
            over = time.monotonic()
        if done:
            self._times.acknowledged_s[name] = over - began
            self._times.published_s[name] = over - stored.at
        return began

    def _quiet(self, crowd: Crowd) -> None:
        """Let what is still to be said be said; where faults happen, it never all is."""
        deadline = time.monotonic() + (SOAK_S if self._wish.profiles else QUIET_S)
        seen, since = crowd.count().messages, time.monotonic()

        def silent(now: Count) -> bool:
            nonlocal seen, since
            if now.messages != seen:
                seen, since = now.messages, time.monotonic()
            return time.monotonic() - since > SOAK_S

        crowd.wait(silent, min(deadline, self._deadline))

    def _end(self, stage: Stage, crowd: Crowd, wanted: Digest) -> dict[str, Any]:
        """Let all happen that shall, then the faults end, and what they broke mend itself."""
        self._wait(crowd, self._befallen, "every fault has happened")
        crowd.calm()
        refusing = self._will_refuse()
        # Where there were faults, some may wait long before they try to connect again.
        there = 0 if self._wish.profiles else len(self._names)

        def over(now: Count) -> bool:
            runs = now.running.get(wanted, 0)
            told = now.failed >= refusing and runs + refusing >= len(self._names)
            return told and not now.waiting and now.connected >= there

        self._wait(crowd, over, "all have ended on it")
        self._quiet(crowd)
        return self._account(
            crowd,
            wanted,
            lambda: Books(self._deployments, stage.finals(), stage.records()),
        )

    def _befallen(self, now: Count) -> bool:
        return self._weather.over and not now.spared

    def _elsewhere(self, url: str) -> dict[str, Any]:
        count = len(self._names)
        settled: list[float] = []

        def over(now: Count) -> bool:
            if sum(now.running.values()) + now.failed < count:
                settled.clear()
                return False
            self._weather.begin()
            settled.append(time.monotonic())
            return settled[-1] - settled[0] > SETTLED_S and self._befallen(now)

        with self._crowd(url) as crowd:
            self._weather = self._forecast(crowd, None)
            self._wait(crowd, over, "run what is deployed to them")
            crowd.calm()
            self._wait(crowd, lambda now: over(now) and not now.waiting, "all have ended on it")
            return self._account(crowd, None, lambda: None)

    def _crowd(self, url: str) -> Crowd:
        wish = self._wish
        number = plan.processes(wish.devices, os.cpu_count() or 1, wish.processes)
        tokens = dict(zip(self._names, wish.tokens, strict=False))
        spread_s = min(wish.timeout_s / 4, wish.devices / CONNECTS_PER_S)
        fleets = [
            Fleet(
                members=tuple(self._member(name, tokens.get(name, "")) for name in names),
                registry_url=url,
                place=str(self._place / f"downloads-{names[0]}"),
                seed=wish.seed,
                heartbeat_s=wish.heartbeat_s,
                connect_spread_s=spread_s,
                records_per_s=wish.records_per_s,
            )
            for names in plan.share(self._names, number)
        ]
        processes = counted(number, "process", "processes")
        self._say(f"starting {counted(len(self._names), 'device')} in {processes}")
        return Crowd(fleets, files.make_directory(self._place / "logs"))

    def _member(self, name: str, token: str) -> Member:
        directory = str(self._place / "devices" / name)
        return Member(name, directory, self._profiles[name], token)

    def _will_refuse(self) -> int:
        return sum(FAILING_CHECK in profiles for profiles in self._profiles.values())

    def _ticker(self, crowd: Crowd, what: str) -> Callable[[], object]:
        def tick() -> None:
            self._tell(crowd.count(), what)

        return tick

    def _wait(self, crowd: Crowd, holds: Callable[[Count], bool], what: str) -> bool:
        def watched(now: Count) -> bool:
            self._tell(now, what)
            return now.devices == len(self._names) and holds(now)

        return crowd.wait(watched, self._deadline)

    def _tell(self, now: Count, what: str) -> None:
        self._weather.look(now)
        if time.monotonic() < self._told_at + TOLD_EVERY_S:
            return
        self._told_at = time.monotonic()
        running = ", ".join(str(number) for number in now.running.values()) or "0"
        self._say(
            f"{time.monotonic() - self._began:6.1f} s  {what}: {now.connected} connected, "
            f"{running} running, {now.failed} refused, {now.messages} messages"
        )

    def _account(
        self, crowd: Crowd, wanted: Digest | None, books: Callable[[], Books | None]
    ) -> dict[str, Any]:
        self._times.total_s = time.monotonic() - self._began
        memory_bytes = crowd.memory_bytes()
        outcomes = crowd.end()
        found = report.result(outcomes, wanted, self._times, books(), memory_bytes=memory_bytes)
        missing = len(self._names) - len(outcomes)
        found["stuck"] += missing
        found["without_version"] += missing
        blows = [blow.plain(self._began) for blow in self._weather.blows]
        return {**found, "devices": len(self._names), "blows": blows, "seed": self._wish.seed}


def _ran(bundle: Digest, goal: int, now: Count) -> bool:
    return now.ran.get(bundle, 0) >= goal


def tokens_of(registry: Client, devices: Sequence[str]) -> tuple[str, ...]:
    """Return a token for each device, made with the key of a login."""
    wishes = [shapes.NewToken(labels=LABELS, device_id=device) for device in devices]
    return tuple(registry.make_token(wish).token for wish in wishes)
