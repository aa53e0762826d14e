"""What the service manager hears of an agent: systemd's datagrams, from a real agent process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent import settings
from edge_agent.account import Place
from edge_agent.agent import Agent
from edge_agent.mind import events
from edge_agent.nouplink import NoUplink
from edge_agent.servicemanager import Notifier
from runtime import children, digests
from runtime.topics import DeviceId
from tests.support.brokers import eventually

DEVICE = DeviceId("dev-a")


class Manager:
    """A service manager's ear."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while word := self._socket.recv(1024):
                self.heard.append(word.decode())

    def count(self, word: str) -> int:
        return self.heard.count(word)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def test_an_agent_says_when_it_is_ready_feeds_the_watchdog_and_says_goodbye(
    manager: Manager, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "identity.json").write_text("damaged")  # runs, and reaches nobody
    child = children.spawn(
        [sys.executable, "-m", "edge_agent", "run", "--data", str(tmp_path / "data")],
        env={**os.environ, "NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "600000"},
        stderr=subprocess.DEVNULL,
    )
    eventually(lambda: manager.count("WATCHDOG=1") >= 3, "the watchdog is fed")
    assert manager.heard[0] == "READY=1"
    child.send_signal(signal.SIGTERM)

    assert child.wait(30) == 0
    eventually(lambda: manager.heard[-1] == "STOPPING=1", "it says goodbye")


def test_an_owner_that_hangs_feeds_no_watchdog(manager: Manager, tmp_path: Path) -> None:
    notifier = Notifier(str(manager.path), watchdog_s=0.3)
    agent = Agent(Place(tmp_path, DEVICE), settings.of({}), NoUplink("x"), notifier=notifier)
    running = threading.Thread(target=agent.run)
    running.start()
    eventually(lambda: manager.count("WATCHDOG=1") >= 2, "the watchdog is fed")
    hangs, release = threading.Event(), threading.Event()

    def hang(_answer: str) -> None:
        hangs.set()
        release.wait(30)

    applied = events.HandApplied("m", digests.of_bytes(b"b"), "m", 1)
    agent._queue.put(events.HandsAsked(applied, hang))
    assert hangs.wait(20)
    before = manager.count("WATCHDOG=1")
    until = time.monotonic() + 0.6
    eventually(lambda: time.monotonic() > until, "twice the watchdog's time is over")
    silent = manager.count("WATCHDOG=1") <= before + 1  # one may have been on its way
    release.set()
    eventually(lambda: manager.count("WATCHDOG=1") > before + 2, "it goes on")
    agent.stop()
    running.join(30)

    assert silent


def test_nobody_listening_costs_no_wake_up() -> None:
    notifier = Notifier.of({})

    assert notifier.within(None) is None
    assert notifier.within(17.0) == 17.0
    notifier.ready()


@pytest.mark.parametrize(
    ("environment", "wait_s"),
    [
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "90000000"}, 30.0),
        ({"NOTIFY_SOCKET": "/x"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "90000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "90000000"}, None),
    ],
)
def test_the_owner_wakes_up_only_for_a_watchdog_of_its_own(
    environment: dict[str, str], wait_s: float | None
) -> None:
    assert Notifier.of(environment).within(None) == wait_s


def test_a_service_manager_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "gone"), 1.0).alive()
    Notifier("@packhorse-nobody", 1.0).ready()
