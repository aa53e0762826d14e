"""Stands for systemd where there is none: runs the service of a unit file as Type=notify says.

    with servicemanagers.running(unit_file, environment, log) as service:
        service.starts, service.killed

It starts what ends again, as Restart=always does. It kills the whole service, children included,
when READY=1 does not come in time, or WATCHDOG=1 stays away after it. Only these two clocks are
other than in the unit: tests do not wait for a minute and a half.
"""

import contextlib
import os
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from runtime import children

START_S, WATCHDOG_S, RESTART_S = 120.0, 10.0, 0.2
_LOOK_S = 0.05


class Service:
    """One service; a thread keeps it up."""

    def __init__(self, unit: Path, environment: Mapping[str, str], log: Path) -> None:
        """Run what ExecStart of a unit file says."""
        text = unit.read_text()
        assert "Type=notify" in text
        (line,) = [one for one in text.splitlines() if one.startswith("ExecStart=")]
        self._argv, self._log = shlex.split(line.removeprefix("ExecStart=")), log
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = f"\0packhorse-test-{os.getpid()}-{id(self)}"
        self._socket.bind(address)
        self._socket.settimeout(_LOOK_S)
        self._environment = {
            **environment,
            "NOTIFY_SOCKET": f"@{address[1:]}",
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
        }
        self.starts, self.killed = 0, 0
        """How often it was started, and how often it was killed because it said nothing."""
        self._child: subprocess.Popen[bytes] | None = None
        self._heard: list[bytes] = []
        self._ready, self._due_at = False, 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="service-manager", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End it all."""
        self._ending.set()
        self._thread.join(30)
        self._socket.close()

    def kill(self) -> None:
        """Kill the service as a power cut would, children included; it is started again."""
        if self._child is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            main = psutil.Process(self._child.pid)
            for each in (*main.children(recursive=True), main):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()

    def _keep(self) -> None:
        try:
            while not self._ending.is_set():
                if self._child is None or self._child.poll() is not None:
                    self._begin()
                self._listen()
                if time.monotonic() > self._due_at:
                    self.killed += 1
                    self._due_at = float("inf")
                    self.kill()
        finally:
            self.kill()
            if self._child is not None:
                self._child.wait(30)

    def _begin(self) -> None:
        if self.starts:
            self._ending.wait(RESTART_S)
        with self._log.open("ab") as log:
            self._child = children.spawn(
                self._argv, env=self._environment, cwd=Path("/"), stdout=log, stderr=log
            )
        self.starts += 1
        self._ready, self._due_at = False, time.monotonic() + START_S

    def _listen(self) -> None:
        try:
            word = self._socket.recv(1024)
        except TimeoutError:
            return
        self._ready |= word == b"READY=1"
        if self._ready:
            self._due_at = time.monotonic() + WATCHDOG_S


@contextlib.contextmanager
def running(unit: Path, environment: Mapping[str, str], log: Path) -> Iterator[Service]:
    """Run a service as long as the block lasts."""
    made = Service(unit, environment, log)
    made.start()
    try:
        yield made
    finally:
        made.stop()
