"""A simulated device from power to power: the real mind, owner, reports and protocol.

Its drivers only take time. A life keeps nothing: what survives it is the device's, see device.py.
"""

import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edge_agent.account import Account, Place
from edge_agent.company import Company
from edge_agent.mind import events, modules, states
from edge_agent.mind.events import Event, News
from edge_agent.mind.states import State
from edge_agent.owner import Owner
from edge_agent.simulation.drivers import Disk, Hands, Porter
from edge_agent.simulation.faults import Faults
from edge_agent.simulation.loop import Loop, Timer
from edge_agent.simulation.radio import Radio, Traffic
from edge_agent.simulation.records import MemoryOutbox, NoRecords, Predictions, Records
from edge_agent.simulation.shelf import Shelf
from edge_agent.timers import Timers
from edge_agent.uplink import UplinkHooks
from runtime.clock import Clock
from runtime.credentials import LinkSettings
from runtime.digests import Digest
from runtime.messages import RunningVersion
from runtime.simulated import Fleet
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
LIMITS = states.Limits(stable_s=1.0)
"""Faults come in a sixtieth of the time that they really take, and so does trust."""


class Powered(Protocol):
    """What outlives a life: see device.py."""

    name: DeviceId
    directory: Path
    fleet: Fleet
    loop: Loop
    shelf: Shelf
    settings: LinkSettings
    rng: random.Random
    faults: Faults
    disk: Disk
    outbox: MemoryOutbox
    traffic: Traffic
    downloaded_bytes: int

    @property
    def clock(self) -> Clock:
        """Of its board."""
        ...

    def note_running(self) -> None:
        """Something may run now."""
        ...


class SimulatedAccount(Account):
    """What is known of a device whose board is imagined."""

    def _vitals(self) -> dict[str, float]:
        return dict(VITALS)

    def _board_troubles(self, now: float) -> list[str]:
        del now
        return []


class Life:
    """A device while it has power."""

    def __init__(self, device: Powered, number: int) -> None:
        """Wake up with what the disk holds."""
        self._device, self._loop = device, device.loop
        self._queue: deque[Event | News] = deque()
        self._running = self._ended = False
        self._busy_until = 0.0
        self._due: Timer | None = None
        self._boot_id = f"life-{number}"
        state = states.resume(device.disk.saved, LIMITS)
        self.radio = _radio(device)
        self._records = self._telemetry()
        self.account = _account(device, state, self._records)
        self._porter = Porter(
            self.radio,
            device.shelf,
            device.disk,
            self._later,
            self.put,
            bytes_per_s=device.faults.kbps(device.fleet.rate_kbps) * BYTES_PER_KILOBIT,
        )
        company = self._company(Timers())
        self._owner = Owner(device.name, state, company)

    def _company(self, timers: Timers) -> Company:
        device, clock = self._device, self._device.clock
        hands = Hands(
            self._porter,
            device.disk,
            device.faults,
            timers,
            clock,
            later=self._later,
            put=self.put,
            keep=self._bundles_in_use,
            jitter=device.rng.uniform,
        )
        return Company(
            device.disk,
            hands,
            self.account,
            self._records,
            self.radio,
            timers,
            clock,
            rest=lambda: None,
        )

    def _telemetry(self) -> Records:
        device = self._device
        if device.fleet.records_per_s <= 0:
            return NoRecords()
        return Predictions(
            device.outbox,
            device.name,
            self.radio.publish,
            self._answering,
            per_s=device.fleet.records_per_s,
            faults=device.faults,
            rng=device.rng,
            clock=device.clock,
            later=self._later,
        )

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
        self._records.start()
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

    def _answering(self) -> RunningVersion | None:
        found = (modules.answering(module) for module in self.state.modules)
        spec = next((each for each in found if each is not None), None)
        return None if spec is None else RunningVersion(spec.bundle, spec.model, spec.version)

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


def _account(device: Powered, state: State, records: Records) -> SimulatedAccount:
    return SimulatedAccount(
        Place(device.directory, device.name),
        state,
        reserve_mb=0,
        clock=device.clock,
        telemetry=records,
        listeners=NoRecords(),
        troubles={},
        about={**FACTS, "hostname": device.name},
    )


def _radio(device: Powered) -> Radio:
    return Radio(
        device.loop,
        device.settings,
        device.name,
        clock=device.clock,
        heartbeat_s=device.fleet.heartbeat_s,
        faults=device.faults,
        traffic=device.traffic,
        rng=device.rng,
    )
