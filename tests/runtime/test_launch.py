"""`packhorse-runtime launch`, in real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from runtime.commands import launch
from runtime.errors import InvalidError

SCRIPT = """
import os, pathlib, signal, sys, time
status = pathlib.Path(sys.argv[1])
def end(*_):
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
status.write_text(str(os.getpid()))
while True:
    time.sleep(0.01)
    if status.with_name("die").exists():
        os._exit(7)
"""
HOLD = """
import pathlib, sys
from runtime.commands.launch import Holder
status = pathlib.Path(sys.argv[1])
argv = [sys.executable, "-c", sys.argv[2], str(status)]
sys.exit(Holder(argv, {}, status).run())
"""


@contextmanager
def held(status: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a holder of a command that says its process id in the status file."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(status), SCRIPT]) as holder:
        try:
            yield holder
        finally:
            holder.kill()
            if status.exists():  # nobody else ends what it held
                with suppress(ProcessLookupError):
                    os.kill(int(status.read_text()), signal.SIGKILL)


def until_said(status: Path, other_than: str = "") -> str:
    deadline = time.monotonic() + 20
    while True:
        said = status.read_text() if status.exists() else ""
        if said and said != other_than:
            return said
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until_gone(status: Path) -> None:
    deadline = time.monotonic() + 20
    while status.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_held_command_leaves_and_comes_back_while_the_holder_stays(tmp_path: Path) -> None:
    status = tmp_path / "status"
    with held(status) as holder:
        first = until_said(status)
        holder.send_signal(signal.SIGUSR1)
        until_gone(status)
        assert holder.poll() is None

        holder.send_signal(signal.SIGUSR2)

        second = until_said(status)
        assert second != first
        assert not Path(f"/proc/{first}").exists()
        os.kill(int(second), 0)
        holder.terminate()
        assert holder.wait(20) == 0


def test_a_holder_whose_command_left_ends_when_it_is_told(tmp_path: Path) -> None:
    status = tmp_path / "status"
    with held(status) as holder:
        until_said(status)
        holder.send_signal(signal.SIGUSR1)
        until_gone(status)

        holder.terminate()

        assert holder.wait(20) == 0


def test_a_command_that_ends_by_itself_ends_its_holder_with_its_code(tmp_path: Path) -> None:
    status = tmp_path / "status"
    with held(status) as holder:
        until_said(status)

        (tmp_path / "die").touch()

        assert holder.wait(20) == 7


def test_a_call_back_while_it_leaves_brings_it_back(tmp_path: Path) -> None:
    status = tmp_path / "status"
    with held(status) as holder:
        first = until_said(status)

        holder.send_signal(signal.SIGUSR1)
        holder.send_signal(signal.SIGUSR2)
        second = until_said(status, other_than=first)

        os.kill(int(second), 0)
        assert holder.poll() is None


def test_what_a_former_life_wrote_is_no_status(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("old")
    with held(status):
        assert until_said(status, other_than="old") != "old"


def test_variables_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "env.json"
    # One that Python itself heeds: the process that is started tells of each import.
    path.write_text(json.dumps({"PYTHONVERBOSE": "1"}))

    done = subprocess.run(
        [sys.executable, "-m", "runtime", "launch", "--env-file", str(path), "--", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0
    assert "import 'site'" in done.stderr


@pytest.mark.parametrize("text", ["[]", "{", '{"A": 1}', "x" * (launch.MAX_ENV_BYTES + 1)])
def test_a_file_that_is_no_object_of_texts_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "env.json"
    path.write_text(text)

    with pytest.raises(InvalidError, match="--env-file"):
        launch._variables(path)
