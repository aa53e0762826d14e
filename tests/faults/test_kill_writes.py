"""kill -9 of the agent at its n-th durable write: of files, of the journal, of another slot.

A sample of the moments; all of them, which takes five minutes, with EVERY_WRITE=1 in the
environment (`make faults-writes`).
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.host import slots
from edge_agent.host.slots import Slots
from runtime.bundle.build import build
from runtime.candidates import Candidate, Gate, Promote
from tests.support import agents
from tests.support.agents import MODULE, Device

EVERY = bool(os.environ.get("EVERY_WRITE"))
MOST = 200
"""More than a deployment has; a run in which nobody dies ends the test."""
ROW = [1.0, 2.0, 3.0, 4.0]
OLD, NEW = [2.0, 4.0, 6.0, 8.0], [3.0, 6.0, 9.0, 12.0]

pytestmark = pytest.mark.timeout(7200 if EVERY else 300)


def moments(sample: list[int]) -> list[int]:
    return list(range(1, MOST)) if EVERY else sample


def running(device: Device, factor: float = 2.0) -> Path:
    """Have a first version running, and the agent stopped; return the version's directory."""
    device.start()
    first = device.bundle("first", factor=factor)
    device.want(first)
    device.until_running(first)
    device.stop()
    return first


def killed_at_each(
    sample: list[int], begin: Callable[[Device], None], comes_back: Callable[[Device], None]
) -> None:
    """Kill the agent at each of these durable writes after `begin`, then see how it comes back."""
    for step in moments(sample):
        with agents.device() as device:
            begin(device)
            device.start(die=f"commit:{step}")
            device.until(lambda: died(device) or settled(device), "it dies or gets there")
            if not died(device):
                assert EVERY, f"it has fewer than {step} writes"
                return
            comes_back(device)
    assert not EVERY, f"a deployment has more than {MOST} writes"


def died(device: Device) -> bool:
    assert device.process is not None
    code = device.process.poll()
    assert code in {None, -signal.SIGKILL}, device.log()
    return code is not None


def settled(device: Device) -> bool:
    """Whether the second version runs, and nothing of the first is left on the disk."""
    second = build(device.directory / "second").digest
    device.infer(ROW)
    told = device.module().running
    alone = len(list((device.data / "bundles").iterdir())) <= 2
    return told is not None and told.bundle == second and alone


def test_a_kill_at_any_durable_write_ends_on_the_wanted_version() -> None:
    def begin(device: Device) -> None:
        running(device)
        device.want(device.bundle("second", factor=3.0), soak_s=0.0)

    def comes_back(device: Device) -> None:
        device.start()
        device.until(lambda: device.infer(ROW) in (OLD, NEW), "some version answers", 20.0)
        device.until_running(device.directory / "second")
        assert device.infer(ROW) == NEW
        assert device.status().troubles == ()

    killed_at_each([1, 4, 9, 16, 25], begin, comes_back)


def other(directory: Path) -> None:
    """Make a bundle differ from another that answers alike."""
    (directory / "note.txt").write_text("the second version")


def test_a_kill_at_any_durable_write_of_a_candidate_leaves_one_that_is_measured_and_promoted() -> (
    None
):
    def begin(device: Device) -> None:
        first = running(device)
        second = device.bundle("second", change=other)
        beside = Candidate(
            device.spec(second).bundle,
            "scale",
            2,
            cpu=2.0,
            gate=Gate(requests=3),
            promote=Promote.BY_GATE,
        )
        device.want(first, candidate=beside, soak_s=0.0)

    def comes_back(device: Device) -> None:
        device.start()
        device.until(lambda: device.infer(ROW) == OLD, "some version answers", 20.0)
        device.until(lambda: settled(device), "the candidate has become the version")
        assert device.module(MODULE).version == 2
        assert device.status().troubles == ()

    killed_at_each([6, 21], begin, comes_back)


# -- the agent's own two slots

SWITCHES = """
import os, pathlib, runpy, signal, sys
directory, last = pathlib.Path(sys.argv[2]), int(sys.argv[3])
slots = runpy.run_path(sys.argv[1])
left = iter(range(last))

def deadly(real):
    def call(*words, **named):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words, **named)
    return call

os.fsync, os.symlink = deadly(os.fsync), deadly(os.symlink)
pathlib.Path.replace = deadly(pathlib.Path.replace)
slots["write"](directory, slots["begun"](slots["read"](directory)))
"""


def switched(directory: Path) -> Iterator[int]:
    """Switch slots again and again, dying one step later each time, until it dies no more."""
    code, step = -signal.SIGKILL, 0
    while code == -signal.SIGKILL:
        slots.write(directory, Slots("a"))
        script = [sys.executable, "-I", "-S", "-c", SWITCHES, str(slots.__file__)]
        code = subprocess.run([*script, str(directory), str(step)], check=False).returncode
        step += 1
        yield code


def test_a_kill_at_any_step_of_a_switch_of_slots_leaves_the_old_one_or_the_new(
    tmp_path: Path,
) -> None:
    old, new = Slots("a"), Slots("b", trial=True)
    seen = []
    for code in switched(tmp_path):
        assert code in {0, -signal.SIGKILL}
        assert (tmp_path / slots.CURRENT).readlink().name in {"a", "b"}
        seen.append(slots.read(tmp_path))

    assert set(seen) == {old, new}
    assert seen[-1] == new, "in the last run nobody died"
    assert len(seen) > 5
    assert seen == sorted(seen, key=lambda each: each.trial), "and no step goes back"
