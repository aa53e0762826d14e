"""Updates of the agent itself: two slots, a trial, and the way back. The rules first, then real
environments, a real launcher and real agents.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent import status
from edge_agent.errors import HostError, NotRunningError
from edge_agent.host import proving, slots, update
from edge_agent.host.environments import Source
from edge_agent.host.proving import Proving, Verdict
from edge_agent.host.slots import MOST_BOOTS, Slots
from runtime import children
from runtime.errors import InvalidError
from tests.support.agentwheels import hasty, wheel
from tests.support.brokers import eventually

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

# -- the rules


@settings(max_examples=200)
@given(
    moves=st.lists(
        st.sampled_from(["update", "start", "start", "start", "unwhole", "prove", "cut"]),
        max_size=40,
    )
)
def test_a_slot_that_never_proves_itself_is_left_after_a_few_starts(moves: list[str]) -> None:
    """Whatever happens, the slot that was proved last is there, and an unproved one ends."""
    durable, good, starts = Slots(), "a", 0
    for move in moves:
        before = durable
        match move:
            case "update":
                durable = slots.begun(durable)
                starts = starts if before.trial else 0
            case "start" | "unwhole":
                durable = slots.started(durable, whole=move == "start")
                starts += durable.trial
            case "prove":
                durable = slots.proved(durable)
                good = durable.active if before.trial else good
            case "cut":  # before the new state was durable: nothing has happened
                durable = before
        assert durable.trial or durable.active == good
        assert not durable.trial or slots.other(durable.active) == good
        assert starts <= MOST_BOOTS or not durable.trial
        assert bool(durable.reason) <= (not durable.trial)


def test_an_update_on_top_of_a_trial_changes_nothing() -> None:
    trial = Slots("b", trial=True, boots=1)

    assert slots.begun(trial) == trial


@pytest.mark.parametrize("nth", range(1, 5))
def test_a_power_cut_while_the_state_is_written_leaves_the_old_or_the_new(
    tmp_path: Path, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Slots("a"), Slots("b", trial=True)
    slots.write(tmp_path, old)
    real, calls = os.fsync, iter(range(1, 100))

    def cut(handle: int) -> None:
        if next(calls) == nth:
            raise OSError(5, "the power is gone")
        real(handle)

    with monkeypatch.context() as patch, contextlib.suppress(OSError):
        patch.setattr(os, "fsync", cut)
        slots.write(tmp_path, new)

    assert slots.read(tmp_path) in {old, new}


@pytest.mark.parametrize("damage", [b"", b"{", b'{"active":"c","trial":false}', b"[]", b"\xff"])
def test_a_state_that_cannot_be_read_is_where_the_link_leads(tmp_path: Path, damage: bytes) -> None:
    slots.write(tmp_path, Slots("b"))
    (tmp_path / slots.STATE).write_bytes(damage)

    assert slots.read(tmp_path) == Slots("b")
    assert slots.read(tmp_path / "none") == Slots("a")


def test_an_agent_proves_itself_by_a_link_and_a_minute_or_by_a_longer_life(tmp_path: Path) -> None:
    at = [0.0]
    slots.write(tmp_path, Slots("b", trial=True, boots=1))
    trial = Proving(tmp_path, lambda: at[0])
    assert trial.within(None) == proving.LINKED_S / 4
    trial.look(linked=True)
    at[0] = proving.LINKED_S
    trial.look(linked=False)
    assert slots.read(tmp_path).trial

    trial.look(linked=True)

    assert slots.read(tmp_path) == Slots("b")
    assert trial.within(None) is None
    assert proving.judge(proving.ALONE_S, linked=False, was_linked=False) is Verdict.GOOD


def test_an_agent_that_cannot_reach_the_registry_where_the_one_before_could_goes(
    tmp_path: Path,
) -> None:
    at = [0.0]
    slots.write(tmp_path, slots.begun(Slots("a"), linked=True))
    trial = Proving(tmp_path, lambda: at[0])
    at[0] = proving.ALONE_S - 1
    assert not trial.look(linked=False)
    at[0] = proving.ALONE_S

    assert trial.look(linked=False)
    assert slots.read(tmp_path).active == "a"
    assert "did not reach the registry" in slots.read(tmp_path).reason
    assert proving.judge(proving.ALONE_S, linked=True, was_linked=True) is Verdict.GOOD


def test_an_agent_in_no_slot_has_nothing_to_prove() -> None:
    assert Proving.of({}).within(None) is None


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("1.0; rm", "version"),
        ("", "version"),
        ("none.whl", "file that exists"),
        ("../x", "version"),
    ],
)
def test_what_is_neither_a_wheel_nor_a_version_is_refused(wanted: str, words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        Source(wanted).requirement()


def test_an_update_without_slots_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="install --slots"):
        update.begin(tmp_path / "slots", Source("1.0"))


# -- real environments


def source(path: Path) -> Source:
    return Source(str(path), ("--no-index", "--no-deps"))


class Device:
    """A data directory with slots, and a service manager that starts the agent again and again."""

    def __init__(self, place: Path) -> None:
        self.place, self.data = place, place / "data"
        self.slots = update.directory_of(self.data)
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.data.mkdir()
        (self.data / "identity.json").write_text("damaged")  # it runs, and reaches nobody

    def start(self) -> None:
        command = [*update.command(self.slots), "--data", str(self.data)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PACKHORSE")}
        with (self.place / "agent.log").open("ab") as log:
            self.process = children.spawn(
                command, env=environment, cwd=Path("/"), stdout=log, stderr=log
            )
        self.starts += 1

    def keep_up(self) -> None:
        """Do once what a service manager does: start what has ended."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def version(self) -> str:
        """Return the version that is at work; empty: none is."""
        try:
            return status.ask(self.data / "run").reported.facts["agent"]
        except NotRunningError:
            return ""

    def until(self, version: str) -> None:
        def runs() -> bool:
            self.keep_up()
            return self.version() == version

        eventually(runs, f"{version} runs\n{self.log()}", 60.0)

    def until_undone(self) -> None:
        def undone() -> bool:
            self.keep_up()
            return bool(slots.read(self.slots).reason)

        eventually(undone, f"the update is undone\n{self.log()}", 60.0)

    def try_copy(self, module: str, old: str, new: str) -> None:
        """Put slot a on trial as slot b, with one module changed: quicker than an installation."""
        shutil.copytree(self.slots / "a", self.slots / "b", symlinks=True)
        (path,) = (self.slots / "b").glob(f"lib/python*/site-packages/edge_agent/{module}")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        slots.write(self.slots, slots.begun(slots.read(self.slots)))

    def log(self) -> str:
        path = self.place / "agent.log"
        return path.read_text()[-3000:] if path.exists() else ""

    def troubles(self) -> str:
        return "; ".join(status.ask(self.data / "run").reported.troubles)

    def stop(self) -> None:
        if self.process is not None:
            children.stop(self.process, grace_s=20)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose data has slots, with version 1 in slot a."""
    place = tmp_path_factory.mktemp("installed")
    version = update.first(update.directory_of(place / "data"), source(wheel(place, "1.0", hasty)))
    assert version == "1.0"
    return place


@pytest.fixture
def device(installed: Path) -> Iterator[Device]:
    """The device as it was installed: an environment cannot be moved, so all use the same."""
    shutil.rmtree(installed / "data", ignore_errors=True)
    (installed / "agent.log").unlink(missing_ok=True)
    directory = update.directory_of(installed / "data")
    shutil.rmtree(directory / "b", ignore_errors=True)
    slots.write(directory, Slots("a"))
    made = Device(installed)
    yield made
    made.stop()


def test_an_agent_killed_again_and_again_in_its_trial_goes_back(device: Device) -> None:
    """As power cuts would, or a watchdog."""
    device.try_copy("host/proving.py", "ALONE_S = 0.1", "ALONE_S = 900.0")
    for number in range(MOST_BOOTS):
        device.until("1.0")
        assert slots.read(device.slots) == Slots("b", trial=True, boots=number + 1)
        assert device.process is not None
        device.process.kill()
        device.process.wait()
        eventually(lambda: device.version() == "", "nobody is at work")
    device.until_undone()
    device.until("1.0")


def test_what_cannot_be_loaded_is_never_put_on_trial(device: Device) -> None:
    """Row 16: a failing update removes what starts the agent."""
    device.try_copy("owner.py", "import logging", "import nothing_of_this_name")
    with pytest.raises(HostError, match="nothing_of_this_name"):
        update._test(device.slots, "b")

    assert update._test(device.slots, "a") == "1.0"


def test_a_slot_that_lost_its_python_is_not_waited_for(device: Device) -> None:
    slots.write(device.slots, Slots("b", trial=True))
    device.until("1.0")

    assert "it cannot be started" in slots.read(device.slots).reason
    assert json.loads((device.slots / slots.STATE).read_text())["active"] == "a"


def test_the_launcher_needs_nothing_of_ours(tmp_path: Path) -> None:
    """It is a copy of one file, run by the system's Python in isolation."""
    copy = tmp_path / "launcher.py"
    shutil.copy(slots.__file__, copy)
    run = subprocess.run(
        [Path(sys.base_prefix) / "bin" / "python3", "-I", "-S", "-c",
         f"import runpy; print(runpy.run_path({str(copy)!r})['MOST_BOOTS'])"],
        capture_output=True, text=True, check=True, timeout=60, cwd="/",
    )  # fmt: skip

    assert run.stdout.strip() == str(MOST_BOOTS)
