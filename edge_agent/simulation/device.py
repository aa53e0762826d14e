"""One simulated device: what outlives a power cut, and what befalls it."""

import random
from collections.abc import Callable
from pathlib import Path

from edge_agent.mind import modules
from edge_agent.mind.modules import Module
from edge_agent.simulation import faults
from edge_agent.simulation.drivers import Disk
from edge_agent.simulation.faults import Faults
from edge_agent.simulation.life import Life
from edge_agent.simulation.loop import Loop
from edge_agent.simulation.radio import Traffic
from edge_agent.simulation.records import MemoryOutbox
from edge_agent.simulation.shelf import Shelf
from edge_agent.simulation.tries import Tries
from runtime import simulated
from runtime.clock import Clock
from runtime.credentials import LinkSettings
from runtime.digests import Digest
from runtime.messages import ModuleSpec, Phase
from runtime.simulated import Fleet, Member, Outcome
from runtime.topics import DeviceId


class BoardClock:
    """The clock of one board: its wall clock may be wrong, its monotonic one is not."""

    def __init__(self, clock: Clock, faults: Faults) -> None:
        """Go as `clock` goes, off by as much as `faults` say."""
        self._clock, self._faults = clock, faults

    def now(self) -> float:
        """Wall clock, seconds since 1970 (UTC); jumps."""
        return self._clock.now() + self._faults.clock_off_s

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return self._clock.monotonic()


class Device:
    """One device through all its lives; all methods are the loop's."""

    def __init__(
        self,
        member: Member,
        fleet: Fleet,
        loop: Loop,
        *,
        shelf: Shelf,
        settings: LinkSettings,
        tries: Tries,
    ) -> None:
        """Prepare; `settings` are how it connects, `tries` counts when it tries to."""
        self.name = DeviceId(member.name)
        self.directory, self.settings = Path(member.directory), settings
        self.fleet, self.loop, self.shelf = fleet, loop, shelf
        self.rng = random.Random(f"{fleet.seed}/{member.name}")  # noqa: S311 - repeatable
        self.faults = Faults(
            member.profiles,
            random.Random(f"{fleet.seed}/{member.name}/faults"),  # noqa: S311 - repeatable
        )
        self.clock: Clock = BoardClock(loop.clock, self.faults)
        self.disk, self.outbox = Disk(self.faults), MemoryOutbox()
        self.traffic = Traffic(tries)
        self.downloaded_bytes = 0
        self.ran: set[Digest] = set()
        """Bundles that were wanted and answered, now or before."""
        self._lives = 0
        self._life: Life | None = None
        self._stopped = False

    def start(self) -> None:
        """Give it power for the first time, and let its faults begin."""
        self._wake(self.rng.uniform(0.0, self.fleet.connect_spread_s))
        self._again(self.faults.next_cut_s(), self._cut)
        self._again(self.faults.next_reboot_s(), self._reboot)
        self._again(self.faults.next_switch_s(), self._switch)
        self._again(self.faults.next_full_s(), self._fill)
        self._again(self.faults.next_jump_s(), self._jump)

    def storm(self) -> None:
        """Lose power, and have it back, with all of the site."""
        if simulated.REBOOT_STORM in self.faults.profiles and not self._stopped:
            self._power_off(simulated.REBOOT_STORM, faults.STORM_DOWN_S)

    def calm(self) -> None:
        """Let no more faults happen."""
        self.faults.calm()
        self._tell_radio()

    def stop(self) -> None:
        """End in peace."""
        self._stopped = True
        if (life := self._life) is not None:
            life.end(politely=True)

    @property
    def connected(self) -> bool:
        """Whether its link stands."""
        return self._life is not None and self._life.radio.connected

    @property
    def generation(self) -> int:
        """The newest desired state that is durable."""
        return self.disk.saved.desired.generation if self.disk.saved.desired else 0

    def standing(self) -> tuple[Digest | None, bool]:
        """Return the bundle that answers if it is the one wanted, and whether that was refused.

        Of several modules, the first's.
        """
        module = self._module()
        if module is None:
            return None, False
        answers = modules.answering(module)
        return _converged(module, answers), module.shown is Phase.FAILED

    @property
    def spared(self) -> bool:
        """Whether something of its profiles has yet to happen."""
        wanted = self.faults.profiles & simulated.TIMED
        return any(profile not in self.faults.counts for profile in wanted)

    def note_running(self) -> None:
        """Remember what runs."""
        if (bundle := self.standing()[0]) is not None:
            self.ran.add(bundle)

    def outcome(self) -> Outcome:
        """Return how it is now."""
        module, life, traffic = self._module(), self._life, self.traffic
        answers = None if module is None else modules.answering(module)
        wanted = None if module is None else module.wanted
        now = life.downloaded_bytes if life is not None else 0
        return Outcome(
            name=self.name,
            profiles=tuple(sorted(self.faults.profiles)),
            generation=self.generation,
            running=answers.bundle if answers else None,
            wanted=wanted.bundle if wanted else None,
            phase=module.shown.value if module else "",
            reason=module.reason if module else "",
            connects=traffic.connects,
            faults=dict(self.faults.counts),
            messages=traffic.messages,
            sent_bytes=traffic.sent_bytes,
            received_bytes=traffic.received_bytes,
            downloaded_bytes=self.downloaded_bytes + now,
            records=self.outbox.made,
            records_waiting=self.outbox.records,
            records_dropped=self.outbox.dropped,
        )

    def _module(self) -> Module | None:
        held = self._life.state.modules if self._life is not None else ()
        return held[0] if held else None

    def _wake(self, connect_after_s: float) -> None:
        if self._stopped:
            return
        self._lives += 1
        self._life = Life(self, self._lives)
        self._life.start(connect_after_s=connect_after_s)

    def _cut(self) -> None:
        if self.faults.over:
            return
        if self._life is not None and self._life.radio.connected:
            self.faults.happened(simulated.CUT)
            self._life.radio.cut()
        self._again(self.faults.next_cut_s(), self._cut)

    def _reboot(self) -> None:
        if self.faults.over:
            return
        self._power_off(simulated.REBOOT, self.faults.down_s())
        self._again(self.faults.next_reboot_s(), self._reboot)

    def _power_off(self, why: str, down_s: float) -> None:
        if (life := self._life) is None:  # it has no power: the other cut's end brings it back
            return
        self.faults.happened(why)
        life.end(politely=False)
        self._life = None
        self.loop.later(down_s, lambda: self._wake(0.0))

    def _switch(self) -> None:
        if self.faults.over:
            return
        self.faults.offline = not self.faults.offline
        if self.faults.offline:
            self.faults.happened(simulated.OFF_ON)
        self._tell_radio()
        self._again(faults.OFF_ON_S, self._switch)

    def _tell_radio(self) -> None:
        if self._life is not None:
            self._life.radio.look()

    def _fill(self) -> None:
        if self.faults.over:
            return
        self.faults.full = not self.faults.full
        if self.faults.full:
            self.faults.happened(simulated.DISK_FULL)
        self._again(self.faults.next_full_s(), self._fill)

    def _jump(self) -> None:
        if self.faults.over:
            return
        self.faults.jump()
        self._again(self.faults.next_jump_s(), self._jump)

    def _again(self, delay_s: float | None, do: Callable[[], None]) -> None:
        if delay_s is not None:
            self.loop.later(delay_s, lambda: None if self._stopped else do())


def _converged(module: Module, answers: ModuleSpec | None) -> Digest | None:
    wanted = module.wanted
    if answers is None or wanted is None or answers.bundle != wanted.bundle:
        return None
    return answers.bundle
