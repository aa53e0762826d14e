import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from runtime import children
from tests.support.brokers import eventually

PARENT = """
import subprocess, sys, time
from runtime import children
child = children.spawn([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def _gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_child_dies_with_a_parent_that_is_killed() -> None:
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=root, env={"PYTHONPATH": "."}
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not _gone(child)

        parent.kill()

        eventually(lambda: _gone(child), "the child is gone")


def test_a_child_inherits_what_it_is_given_and_no_other_descriptor() -> None:
    given, kept = os.pipe()
    os.set_inheritable(kept, True)
    count = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"
    try:
        child = children.spawn(
            [sys.executable, "-c", count], pass_fds=[given], stdout=subprocess.PIPE
        )
        said, _ = child.communicate()
    finally:
        os.close(given)
        os.close(kept)

    seen = set(map(int, said.decode().strip("[]\n").split(",")))
    assert given in seen
    assert kept not in seen


def test_a_child_in_a_session_of_its_own_is_not_reached_by_ctrl_c() -> None:
    child = children.spawn(SLEEP, start_new_session=True)

    assert os.getpgid(child.pid) != os.getpgid(0)
    assert children.stop(child, grace_s=5) == -signal.SIGTERM


def test_a_child_that_ignores_the_request_to_end_is_killed() -> None:
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); print('on', flush=True)\n"
    child = children.spawn(
        [sys.executable, "-c", f"{stubborn}import time; time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    with child.stdout:
        child.stdout.readline()

        assert children.stop(child, grace_s=0.1) == -signal.SIGKILL


def test_a_program_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        children.spawn(["/nowhere/at/all"])


def test_to_stop_a_child_that_has_ended_returns_its_exit_code() -> None:
    child = children.spawn([sys.executable, "-c", "raise SystemExit(7)"])
    child.wait()

    assert children.stop(child, grace_s=1) == 7
