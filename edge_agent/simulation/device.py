"""One simulated device: the real mind, owner, reports and protocol; drivers that only take time.

A life lasts from power to power: everything but the disk and the counters is made anew by each.
"""

import random
from collections import deque
from collections.abc import Callable
from pathlib import Path

from edge_agent.account import Account, Place
from edge_agent.company import Company
from edge_agent.mind import events, modules, states
from edge_agent.mind.events import Event, News
from edge_agent.mind.states import State
from edge_agent.owner import Owner
from edge_agent.simulation.drivers import Disk, Hands, NoRecords, Porter
from edge_agent.simulation.faults import Faults
from edge_agent.simulation.loop import Loop, Timer
from edge_agent.simulation.radio import Radio, Traffic
from edge_agent.simulation.shelf import Shelf
from edge_agent.timers import Timers
from edge_agent.uplink import UplinkHooks
from runtime.credentials import LinkSettings
from runtime.digests import Digest
from runtime.messages import Phase
from runtime.simulated import Fleet, Member, Outcome
from runtime.topics import DeviceId

FACTS = {
    "arch": "aarch64",
    "os": "simulated",
    "board": "simulated",
    "cpus": "4",
    "memory_mb": "4096",
    "accelerator": "none",
    "providers": "CPUExecutionProvider",
    "agent": "simulated",
}
VITALS = {"load_1m": 0.1, "memory_free_mb": 3000.0, "disk_free_mb": 10_000.0}
BYTES_PER_KILOBIT = 125


class SimulatedAccount(Account):
    """What is known of a device whose board is imagined."""

    def _vitals(self) -> dict[str, float]:
        return dict(VITALS)

    def _board_troubles(self, now: float) -> list[str]:
        del now
        return []


class Life:
    """A device while it has power."""

    def __init__(self, device: "Device", number: int) -> None:
        """Wake up with what the disk holds."""
        self._device, self._loop, rng = device, device.loop, device.rng
        self._queue: deque[Event | News] = deque()
        self._running = self._ended = False
        self._busy_until = 0.0
        self._due: Timer | None = None
        state = states.resume(device.disk.saved, states.Limits())
        nothing, timers, clock = NoRecords(), Timers(), device.loop.clock
        self.account = SimulatedAccount(
            Place(device.directory, device.name),
            state,
            reserve_mb=0,
            clock=clock,
            telemetry=nothing,
            listeners=nothing,
            troubles={},
            about={**FACTS, "hostname": device.name},
        )
        self.radio = Radio(
            device.loop,
            device.settings,
            device.name,
            heartbeat_s=device.fleet.heartbeat_s,
            faults=device.faults,
            traffic=device.traffic,
            rng=rng,
        )
        rate = device.fleet.rate_kbps * BYTES_PER_KILOBIT
        disk, later, put = device.disk, self._later, self.put
        self._porter = Porter(self.radio, device.shelf, disk, later, put, bytes_per_s=rate)
        hands = Hands(
            self._porter,
            disk,
            device.faults,
            timers,
            clock,
            later=later,
            put=put,
            keep=self._bundles_in_use,
            jitter=rng.uniform,
        )
        company = Company(
            disk, hands, self.account, nothing, self.radio, timers, clock, rest=lambda: None
        )
        self._owner = Owner(device.name, state, company)
        self._boot_id = f"life-{number}"

    @property
    def state(self) -> State:
        """All that the device knows."""
        return self._owner.state

    def start(self, *, connect_after_s: float) -> None:
        """Go from what the disk holds."""
        self._owner.boot(self._boot_id)
        hooks = UplinkHooks(
            connected=lambda: self.put(events.LinkChanged("")),
            disconnected=lambda reason: self.put(events.LinkChanged(reason or "down")),
            desired=lambda payload: self.put(events.Heard("desired", payload)),
            ack=lambda payload: self.put(events.Heard("ack", payload)),
            command=lambda payload: self.put(events.Heard("command", payload)),
            compose=self.account.reported,
        )
        self.radio.start(hooks, after_s=connect_after_s)
        self._drain()

    def end(self, *, politely: bool) -> None:
        """Stop: in peace, or as if the power had gone."""
        self._ended = True
        self._device.downloaded_bytes += self._porter.downloaded_bytes
        self.radio.stop(politely=politely)

    @property
    def downloaded_bytes(self) -> int:
        """What this life has downloaded."""
        return 0 if self._ended else self._porter.downloaded_bytes

    def put(self, item: Event | News) -> None:
        """Have something thought over, after what came before it."""
        self._queue.append(item)
        if not self._running:
            self._drain()

    def _bundles_in_use(self) -> set[Digest]:
        return self._owner.bundles_in_use()

    def _later(self, delay_s: float, do: Callable[[], None]) -> Timer:
        return self._loop.later(delay_s, lambda: None if self._ended else do())

    def _drain(self) -> None:
        """Think over what waits, unless the disk is busy."""
        if self._ended or self._is_busy():
            return
        self._running = True
        try:
            while self._queue and not self._is_busy():
                self._owner.handle(self._queue.popleft())
                self._note_disk()
            self._owner.tick()
            self._note_disk()
        finally:
            self._running = False
        self._device.note_running()
        self._schedule()

    def _schedule(self) -> None:
        if self._due is not None:
            self._due.cancel()
        wait_s = 0.0 if self._queue else self._owner.wait_s()
        busy_s = self._busy_until - self._loop.clock.monotonic()
        if wait_s is not None or busy_s > 0:
            self._due = self._later(max(busy_s, wait_s or 0.0), self._drain)

    def _is_busy(self) -> bool:
        return self._loop.clock.monotonic() < self._busy_until

    def _note_disk(self) -> None:
        if (busy_s := self._device.disk.busy_s) > 0:
            self._device.disk.busy_s = 0.0
            self._busy_until = self._loop.clock.monotonic() + busy_s


class Device:
    """One device through all its lives; all methods are the loop's."""

    def __init__(
        self, member: Member, fleet: Fleet, loop: Loop, shelf: Shelf, settings: LinkSettings
    ) -> None:
        """Prepare; `settings` are how it connects."""
        self.name = DeviceId(member.name)
        self.directory, self.fleet, self.loop, self.shelf = (
            Path(member.directory),
            fleet,
            loop,
            shelf,
        )
        self.settings = settings
        self.rng = random.Random(f"{fleet.seed}/{member.name}")  # noqa: S311 - repeatable
        self.faults = Faults(
            member.profiles,
            random.Random(f"{fleet.seed}/{member.name}/faults"),  # noqa: S311 - repeatable
        )
        self.disk, self.traffic = Disk(self.faults), Traffic()
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
        self._again(self.faults.next_reboot_s(), self._power_off)

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

    @property
    def converged(self) -> Digest | None:
        """The bundle that answers if it is the one wanted; of several modules, the first's."""
        found = self._found()
        return found[0] if found[0] == found[1] else None

    @property
    def failed(self) -> bool:
        """Whether it has refused what it shall run."""
        return self._found()[2] == Phase.FAILED.value

    def note_running(self) -> None:
        """Remember what runs."""
        if (bundle := self.converged) is not None:
            self.ran.add(bundle)

    def outcome(self) -> Outcome:
        """Return how it is now."""
        running, wanted, phase, reason = self._found()
        life, traffic = self._life, self.traffic
        now = life.downloaded_bytes if life is not None else 0
        return Outcome(
            name=self.name,
            profiles=tuple(sorted(self.faults.profiles)),
            generation=self.generation,
            running=running,
            wanted=wanted,
            phase=phase,
            reason=reason,
            connects=traffic.connects,
            faults=self.faults.count,
            messages=traffic.messages,
            sent_bytes=traffic.sent_bytes,
            received_bytes=traffic.received_bytes,
            downloaded_bytes=self.downloaded_bytes + now,
        )

    def _found(self) -> tuple[Digest | None, Digest | None, str, str]:
        held = self._life.state.modules if self._life is not None else ()
        for module in held:
            answers, wanted = modules.answering(module), module.wanted
            return (
                answers.bundle if answers else None,
                wanted.bundle if wanted else None,
                module.shown.value,
                module.reason,
            )
        return None, None, "", ""

    def _wake(self, connect_after_s: float) -> None:
        if self._stopped:
            return
        self._lives += 1
        self._life = Life(self, self._lives)
        self._life.start(connect_after_s=connect_after_s)

    def _cut(self) -> None:
        if self.faults.over:
            return
        if self._life is not None:
            self.faults.happened()
            self._life.radio.cut()
        self._again(self.faults.next_cut_s(), self._cut)

    def _power_off(self) -> None:
        if self.faults.over:
            return
        self.faults.happened()
        if self._life is not None:
            self._life.end(politely=False)
            self._life = None
        self.loop.later(self.faults.down_s(), lambda: self._wake(0.0))
        self._again(self.faults.next_reboot_s(), self._power_off)

    def _again(self, delay_s: float | None, do: Callable[[], None]) -> None:
        if delay_s is not None:
            self.loop.later(delay_s, lambda: None if self._stopped else do())
