"""A version that comes in a file, applied by hand: real agents, workers and command lines."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent import apply, control, handing
from edge_agent.control import Wish
from edge_agent.errors import ControlError
from edge_agent.journal import Journal, read_file
from runtime import messages
from runtime.bundle.archive import Archive
from runtime.bundle.build import build
from runtime.errors import InUseError, InvalidError, SpaceError
from tests.support import agents, archives, filesystems
from tests.support.agents import MODULE, Device

pytestmark = pytest.mark.slow

ROW = [1.0, 2.0, 3.0, 4.0]
DOUBLE, TRIPLE, FOUR = ([factor * each for each in ROW] for factor in (2.0, 3.0, 4.0))


@pytest.fixture
def device() -> Iterator[Device]:
    with agents.device() as made:
        yield made


def command(device: Device, file: Path) -> subprocess.CompletedProcess[str]:
    """Run `packhorse-agent apply` in a process of its own."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "edge_agent", "apply", str(file)),
            *("--data", str(device.data), "--module", MODULE),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def exported(device: Device, name: str, factor: float) -> tuple[Path, Path]:
    """Return a bundle that no registry serves, and its file."""
    bundle = device.bundle(name, factor=factor)
    return bundle, archives.write(device.directory / f"{name}.tar", bundle)


def test_a_file_is_applied_without_a_registry_and_holds_until_its_next_word(
    device: Device,
) -> None:
    device.start()
    first = device.bundle("first")
    device.want(first)
    device.until_running(first)
    by_hand, file = exported(device, "by-hand", 3.0)

    done = command(device, file)

    assert (done.returncode, done.stdout) == (0, "scale: scale:1 runs\n"), done.stderr
    assert device.infer(ROW) == TRIPLE
    told = device.module()
    assert (told.deployment, told.bundle) == (messages.BY_HAND, build(by_hand).digest)
    assert device.status().generation == 1
    device.kill()
    device.start()
    device.until_running(by_hand)
    assert device.module().deployment == messages.BY_HAND
    device.want(device.bundle("later", factor=4.0))
    device.until(lambda: device.infer(ROW) == FOUR, "the registry's newer word")


def test_a_file_that_fails_its_check_changes_nothing(device: Device) -> None:
    device.start()
    first = device.bundle("first")
    device.want(first)
    device.until_running(first)

    def spoil(directory: Path) -> None:
        other = device.bundle("other", factor=7.0)
        (directory / "model.onnx").write_bytes((other / "model.onnx").read_bytes())

    file = archives.write(device.directory / "bad.tar", device.bundle("bad", change=spoil))
    done = command(device, file)

    assert done.returncode == 1
    assert "failed: check" in done.stderr
    assert "what ran before runs on" in done.stderr
    assert device.infer(ROW) == DOUBLE


def test_without_an_agent_the_next_start_applies_it(device: Device) -> None:
    device.data.mkdir()
    by_hand, file = exported(device, "by-hand", 3.0)

    done = command(device, file)
    device.start()
    device.until_running(by_hand)

    assert "will run when the agent starts" in done.stdout
    assert device.infer(ROW) == TRIPLE


@pytest.mark.parametrize("when", ["commit:3", "commit:6", "journal:1", "journal:2"])
def test_a_kill_while_it_is_applied_costs_a_repetition(device: Device, when: str) -> None:
    device.start(die=when)
    _, file = exported(device, "by-hand", 3.0)
    with contextlib.suppress(AssertionError, ControlError, InUseError):
        device.until(lambda: device.status() is not None, "the agent", timeout_s=5)
        apply.apply(device.data, file, module=MODULE, version=None)
    device.wait_for_death()

    device.start(die="")
    device.until(lambda: device.status() is not None, "the agent")
    done = command(device, file)

    assert done.returncode == 0, done.stderr
    assert device.infer(ROW) == TRIPLE


def test_a_damaged_file_leaves_what_runs_alone(device: Device) -> None:
    device.start()
    device.until((device.data / "run" / control.SOCKET_NAME).exists, "control")
    bundle, file = exported(device, "by-hand", 3.0)
    model = (bundle / "model.onnx").read_bytes()
    bad = archives.damaged(device.directory / "bad.tar", file, model[:60])

    done = command(device, bad)

    assert done.returncode == 1
    assert "wanted" in done.stderr
    assert device.status().modules == ()


def test_a_file_that_is_none_is_refused_with_what_to_do(device: Device) -> None:
    device.data.mkdir()
    other = device.directory / "other.tar"
    other.write_bytes(b"x" * 5000)

    done = command(device, other)

    assert done.returncode == 2
    assert "packhorse models export" in done.stderr


def test_a_choice_among_several_has_to_be_made(device: Device, tmp_path: Path) -> None:
    one, two = device.bundle("one", factor=2.0), device.bundle("two", factor=3.0)
    with archives.write(tmp_path / "both.tar", one, two).open("rb") as stream:
        manifest = Archive(stream).manifest

    with pytest.raises(InvalidError, match="scale:1, scale:2"):
        handing.choose(manifest, Wish())
    with pytest.raises(InvalidError, match="scale:1, scale:2"):
        handing.choose(manifest, Wish(version="scale:3"))
    with pytest.raises(InvalidError, match="module"):
        handing.choose(manifest, Wish(version="scale:2", module="../up"))
    assert handing.choose(manifest, Wish(version="scale:2")).bundle == build(two).digest


def test_only_the_agents_own_user_may_speak_to_it(device: Device) -> None:
    device.start()
    path = device.data / "run" / control.SOCKET_NAME
    device.until(path.exists, "control")

    assert path.stat().st_mode & 0o777 == 0o600


def test_nonsense_at_the_control_socket_harms_nobody(device: Device, tmp_path: Path) -> None:
    device.start()
    path = device.data / "run"
    device.until((path / control.SOCKET_NAME).exists, "control")
    empty = tmp_path / "empty"
    empty.touch()

    with empty.open("rb") as file, pytest.raises(ControlError, match="models export"):
        control.ask(path, Wish(), file.fileno())
    _, good = exported(device, "by-hand", 3.0)
    assert command(device, good).returncode == 0


def test_a_full_disk_is_said_and_nothing_is_wanted(device: Device) -> None:
    with filesystems.of_size(megabytes=12) as directory:
        data = directory / "data"
        data.mkdir()
        _, file = exported(device, "by-hand", 3.0)
        (directory / "ballast").write_bytes(bytes((12 << 20) - 8192))
        with pytest.raises((SpaceError, OSError), match=r"disk: .* make room|No space left"):
            apply.apply(data, file, module=None, version=None)
        assert Journal(data).read()[0].modules == ()

        (directory / "ballast").unlink()
        apply.apply(data, file, module=None, version=None)
        assert len(Journal(data).read()[0].modules) == 1


def test_what_is_journaled_is_what_was_asked_for(device: Device) -> None:
    device.data.mkdir()
    bundle, file = exported(device, "by-hand", 3.0)
    apply.apply(device.data, file, module="other", version="scale:1")

    (kept,) = read_file(device.data / "journal.json").modules
    assert kept.wanted is not None
    assert (kept.name, kept.wanted.bundle) == ("other", build(bundle).digest)
