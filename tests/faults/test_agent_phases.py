"""kill -9 of the agent at every phase of a deployment, by name, and at every write of its journal.

After each the device answers again within a process start, with the old or the new version, and
ends on the wanted one.
"""

from collections.abc import Iterator

import pytest

from tests.support import agents, uplinks
from tests.support.agents import Device

OLD, NEW = [2.0, 4.0, 6.0, 8.0], [3.0, 6.0, 9.0, 12.0]
ROW = [1.0, 2.0, 3.0, 4.0]
PHASES = (
    "phase:fetching",
    "phase:verifying",
    "phase:staged",
    "phase:checking",
    "switching",
    "phase:running",
)
JOURNAL_STEPS = 40
"""More than a deployment has; the run in which nobody dies ends the test."""


@pytest.fixture
def device() -> Iterator[Device]:
    with agents.device() as made:
        yield made


def deploy_first(device: Device) -> None:
    """Have the old version running, and the agent stopped."""
    device.start()
    first = device.bundle("first", factor=2.0)
    device.want(first)
    device.until_running(first)
    assert device.infer(ROW) == OLD
    device.stop()


def comes_back(device: Device) -> None:
    """Start the agent again: it answers, and ends on the new version."""
    device.start()
    device.until(lambda: device.infer(ROW) in (OLD, NEW), "some version answers", 20.0)
    second = device.directory / "second"
    device.until_running(second)
    assert device.infer(ROW) == NEW
    assert device.status().troubles == ()


@pytest.mark.parametrize("moment", PHASES)
def test_a_kill_in_any_phase_ends_on_the_wanted_version(device: Device, moment: str) -> None:
    deploy_first(device)
    device.start(die=moment)
    device.until(lambda: device.infer(ROW) == OLD, "the old version answers")

    device.want(device.bundle("second", factor=3.0))
    device.wait_for_death()

    comes_back(device)


def test_a_kill_in_the_soak_time_ends_on_the_wanted_version(device: Device) -> None:
    deploy_first(device)
    device.start()
    second = device.bundle("second", factor=3.0)
    device.want(second, soak_s=60.0)
    device.until_running(second)

    device.kill()

    comes_back(device)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_at_every_step_of_every_journal_write_ends_on_the_wanted_version() -> None:
    for step in range(1, JOURNAL_STEPS):
        with agents.device() as device:
            deploy_first(device)
            device.want(device.bundle("second", factor=3.0), soak_s=0.0)
            device.start(die=f"journal:{step}")
            assert device.process is not None
            device.until(lambda: died(device) or settled(device), "it dies or gets there")
            if not died(device):
                assert step > 8
                return
            comes_back(device)
    pytest.fail(f"a deployment has more than {JOURNAL_STEPS} steps")


def died(device: Device) -> bool:
    assert device.process is not None
    return device.process.poll() is not None


def settled(device: Device) -> bool:
    """Whether nothing of the old version is left: the deployment writes no more."""
    return device.infer(ROW) == NEW and len(list((device.data / "bundles").iterdir())) == 2


def test_records_of_answered_requests_arrive_once_through_kills(device: Device) -> None:
    device.start()
    first = device.bundle("first", factor=2.0)
    device.want(first)
    device.until_running(first)
    answered = []
    for round_number in range(3):
        for number in range(30):
            request = f"r{round_number}-{number}"
            device.infer(ROW, request=request)
            answered.append(request)
        device.kill()
        device.start()
        device.until(lambda: device.infer(ROW) == OLD, "it answers again")

    def arrived() -> list[str]:
        records = [record for batch in uplinks.taken(device.folder) for record in batch.records]
        return sorted(record.request for record in records if record.request)

    device.until(lambda: len(arrived()) >= len(answered), "all records arrive")
    assert arrived() == sorted(answered)
