"""The owner of the state, with a company that only takes notes."""

import random
from pathlib import Path

import pytest

from edge_agent.account import Account, Place
from edge_agent.company import Company
from edge_agent.mind import states
from edge_agent.mind.effects import Effect
from edge_agent.mind.events import TimerKey
from edge_agent.mind.states import Limits, SavedState
from edge_agent.nouplink import NoUplink
from edge_agent.owner import Owner
from edge_agent.simulation.drivers import Disk
from edge_agent.simulation.faults import Faults
from edge_agent.simulation.records import NoRecords
from edge_agent.timers import Timers
from runtime.clock import SystemClock
from runtime.messages import Desired
from runtime.topics import DeviceId

DEVICE = DeviceId("dev-a")
FLEET = 1000


class Idle:
    """Hands that do nothing."""

    def do(self, effect: Effect) -> None:
        pass

    def again(self, key: TimerKey) -> None:
        pass


class Noting(NoUplink):
    """An uplink that notes for which fleet it shall queue."""

    def __init__(self) -> None:
        super().__init__("nobody")
        self.queued: list[int] = []

    def queue(self, fleet: int) -> None:
        self.queued.append(fleet)


def booted(tmp_path: Path, saved: SavedState, boot_id: str) -> list[int]:
    """Boot a device with what its journal holds; return the fleets for which it queues."""
    state, uplink, nothing = states.resume(saved, Limits()), Noting(), NoRecords()
    account = Account(
        Place(tmp_path, DEVICE),
        state,
        reserve_mb=0,
        clock=SystemClock(),
        telemetry=nothing,
        listeners=nothing,
        troubles={},
        about={},
    )
    disk = Disk(Faults((), random.Random(1)))
    company = Company(
        disk, Idle(), account, nothing, uplink, Timers(), SystemClock(), rest=lambda: None
    )
    Owner(DEVICE, state, company).boot(boot_id)
    return uplink.queued


@pytest.mark.parametrize(
    ("before", "now", "queued"),
    [("one", "two", [FLEET]), ("one", "one", []), ("", "one", [])],
    ids=["the device was rebooted", "its agent alone began again", "it never ran before"],
)
def test_a_device_of_a_fleet_queues_for_the_broker_after_a_reboot(
    tmp_path: Path, before: str, now: str, queued: list[int]
) -> None:
    """A site whose power comes back connects over some time, not in one moment."""
    saved = SavedState(desired=Desired(DEVICE, 1, 0.0, fleet=FLEET), boot_id=before)

    assert booted(tmp_path, saved, now) == queued


def test_a_device_that_knows_of_no_fleet_connects_at_once_after_a_reboot(tmp_path: Path) -> None:
    assert booted(tmp_path, SavedState(boot_id="one"), "two") == []
