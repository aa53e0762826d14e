"""Updates of the agent itself from afar: the unit that `install` writes, two slots, a service
manager that keeps the agent up, a registry with its broker, and versions that are good or not.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_agent.host import install, slots, update
from edge_agent.host.slots import MOST_BOOTS, Slots
from tests.support import agentwheels, fleets, servicemanagers
from tests.support.agentwheels import Change, changed
from tests.support.fleets import Fleet, Said
from tests.support.processes import Agent, eventually
from tests.support.servicemanagers import Service

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

PATIENCE_S = 240.0
PROVING = "edge_agent/host/proving.py"


def brisk(name: str, text: str) -> str:
    """An agent whose trial takes seconds: a second with a link, or five without."""
    if name != PROVING:
        return text
    return text.replace("ALONE_S = 900.0", "ALONE_S = 5.0").replace(
        "LINKED_S = 60.0", "LINKED_S = 1.0"
    )


class Device:
    """A device as `packhorse-agent install --slots` leaves it, under a service manager."""

    def __init__(self, fleet: Fleet, agent: Agent) -> None:
        self.fleet, self.agent = fleet, agent
        self.wheels = fleet.place / "wheels"
        self.wheels.mkdir()
        self.slots = update.directory_of(agent.data)

    def publish(self, version: str, change: Change = brisk) -> None:
        """Put a version where this device's pip looks for packages."""
        agentwheels.wheel(self.wheels, version, change)

    def install(self, version: str) -> Path:
        """Lay it out by the command that a person uses; return the unit."""
        root = self.fleet.place / "root"
        said = fleets.run(
            "packhorse-agent", "install", "--root", str(root), "--data", str(self.agent.data),
            "--slots", version, "--self-update", "--find-links", str(self.wheels), "--no-deps",
        )  # fmt: skip
        assert said.code == 0, said.err
        return root / install.UNIT

    def update(self, version: str, *, timeout_s: int = 240) -> Said:
        """Have the registry ask for another version, and wait so long for an answer."""
        how = ("--timeout", str(timeout_s))
        return self.fleet.packhorse("devices", "update-agent", self.agent.name, version, *how)

    @contextlib.contextmanager
    def updating(self, version: str) -> Iterator[None]:
        """Have it asked for meanwhile; who is killed does not answer."""
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self.update, version, timeout_s=30)
            yield
            asked.result()

    def until(self, version: str) -> None:
        """Wait until the registry knows that a version is at work here, for good."""

        def runs() -> bool:
            known = self.fleet.client.device(self.agent.name)
            settled = not slots.read(self.slots).trial
            return known.facts["agent"] == version and settled and known.presence == "online"

        eventually(runs, f"{version} is at work\n{self.agent.tail()}", PATIENCE_S)

    def until_undone(self, words: str) -> None:
        """Wait until the registry knows why an update was undone."""

        def told() -> bool:
            troubles = self.fleet.client.device(self.agent.name).troubles
            return any("update undone" in one and words in one for one in troubles)

        eventually(told, f"{words!r} is told\n{self.agent.tail()}", PATIENCE_S)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleets.fleet() as made:
        yield made


@pytest.fixture(scope="module")
def device(fleet: Fleet) -> Device:
    made = Device(fleet, fleet.agent("dev-a", starts=False))
    made.publish("1.0")
    return made


@pytest.fixture(scope="module")
def service(device: Device) -> Iterator[Service]:
    unit = device.install("1.0")
    environment = {**os.environ, **device.agent.environment}
    with servicemanagers.running(unit, environment, device.agent.log) as made:
        device.until("1.0")
        yield made


def test_a_new_version_comes_from_afar_and_proves_itself(device: Device, service: Service) -> None:
    """In the same process, from a directory of wheels, without an index, in seconds."""
    device.publish("2.0")
    began = time.monotonic()

    said = device.update("2.0")

    assert said.code == 0, said.err
    assert "version 2.0 is on trial" in said.out
    device.until("2.0")
    assert time.monotonic() - began < PATIENCE_S
    assert slots.read(device.slots) == Slots("b")
    assert (service.starts, service.killed) == (1, 0)
    shared = [slot / "pyvenv.cfg" for slot in (device.slots / "a", device.slots / "b")]
    assert [str(path.parent) in path.read_text() for path in shared] == [True, True]


@pytest.mark.usefixtures("service")
def test_a_version_that_is_nowhere_changes_nothing(device: Device) -> None:
    before = slots.read(device.slots)

    said = device.update("7.7")

    assert said.code == 1
    assert "7.7" in said.complaint
    assert slots.read(device.slots) == before


PROCESS, AGENT = "edge_agent/process.py", "edge_agent/agent.py"
CRASH = "def run(*_):\n    raise SystemExit(7)\n\n\ndef _run(data: Path"
HANG = "__import__('threading').Event().wait()"
STARTED, UNLINKED = f"was started {MOST_BOOTS} times", "did not reach the registry"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(
    ("version", "change", "words"),
    [
        ("3.0", changed(PROCESS, "def run(data: Path", CRASH, brisk), STARTED),
        ("4.0", changed(PROCESS, "port=identity.broker_port", "port=1", brisk), UNLINKED),
        ("5.0", changed(AGENT, "self._owner.tick()", HANG, brisk), STARTED),
    ],
    ids=["crashes", "never connects", "hangs"],
)
def test_a_version_that_is_no_good_goes_by_itself_and_the_registry_is_told_why(
    device: Device, version: str, change: Change, words: str
) -> None:
    device.publish(version, change)
    before = slots.read(device.slots).active
    assert device.update(version).code == 0

    device.until_undone(words)
    device.until("2.0")

    assert slots.read(device.slots).active == before
    assert f"slot {slots.other(before)}" in slots.read(device.slots).reason


def test_a_power_cut_in_the_middle_leaves_the_old_version_or_the_new(
    device: Device, service: Service
) -> None:
    device.publish("6.0")
    before, idle = slots.read(device.slots), device.slots / slots.other("b")
    made_at = idle.stat().st_ino
    with device.updating("6.0"):
        eventually(lambda: not idle.exists() or idle.stat().st_ino != made_at, "begun", PATIENCE_S)
        service.kill()
        device.until("2.0")
    assert slots.read(device.slots) == before

    with device.updating("6.0"):
        eventually(lambda: slots.read(device.slots) != before, "it is on trial", PATIENCE_S)
        service.kill()
        device.until("6.0")

    assert slots.read(device.slots) == Slots("a")
