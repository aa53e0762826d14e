"""A registry of the simulation's own, in a directory of its own: `packhorse serve` as a child."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cloud import database, endpoints
from cloud.client import Client
from cloud.demo.stage import find
from cloud.endpoints import Endpoints
from cloud.settings import Settings
from cloud.simulation import changes
from cloud.simulation.errors import SimulationError
from runtime import children, files

HOST = "127.0.0.1"
START_S, TRIES = 120.0, 3
STOP_S = 15.0
POLL_S = 0.02
LOOK_S = 0.002
TICK_S = 0.02


_LAGGING = """
SELECT EXISTS (SELECT 1 FROM desired JOIN device ON device.id = desired.device
 WHERE device.reported_generation < desired.generation)
"""
_FINALS = """
SELECT subject, json_extract(data, '$.deployment'), count(*) FROM event
 WHERE kind IN ('device.converged', 'device.failed') GROUP BY 1, 2
"""
_RECORDS = "SELECT device, count(*), count(DISTINCT request) FROM record GROUP BY device"
_GENERATION = "SELECT generation FROM desired WHERE device = ?"


@dataclass
class Moment:
    """When something happened."""

    at: float
    """The last look at which it had not: some milliseconds early, more on a busy machine; seconds
    of time.monotonic()."""


class Stage:
    """The registry; its database may be read beside it."""

    def __init__(self, directory: Path) -> None:
        """Start nothing yet."""
        self.directory = files.make_directory(directory)
        self.settings = Settings(data=directory / "registry", host=HOST, port=0, broker_port=0)
        self._log = directory / "registry.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._engine = database.open_engine(self.settings.url_of_database)
        self._database = Path(self._engine.url.database or "")

    def start(self) -> Endpoints:
        """Return where it is once it answers; raise SimulationError."""
        for _ in range(TRIES - 1):
            if (found := self._try()) is not None:
                return found
        return self._start(0, 0)

    def _try(self) -> Endpoints | None:
        """Return where it is; None: it has ended, so perhaps another program took its port."""
        try:
            return self._start(0, 0)
        except SimulationError:
            if self._child is None or self._child.poll() is None:
                raise
        return None

    def restart(self) -> None:
        """Kill the registry, with which its broker ends; start it at the same place."""
        found = self._found()
        assert self._child is not None
        self._child.kill()
        self._child.wait()
        self._start(found.http_port, found.broker_port)

    def kill_broker(self) -> None:
        """Kill the broker; the registry starts another."""
        config = os.fsencode(self.settings.data / "broker")
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdigit() and config in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)

    def _found(self) -> Endpoints:
        found = endpoints.remembered(self.settings.data)
        assert found is not None
        return found

    def _start(self, port: int, broker_port: int) -> Endpoints:
        data = str(self.settings.data)
        ports = ["--host", HOST, "--port", str(port), "--broker-port", str(broker_port)]
        with self._log.open("ab") as printed:
            self._child = child = children.spawn(
                [find("packhorse"), "serve", "--data", data, *ports],
                stdout=printed,
                stderr=printed,
                start_new_session=True,
            )
        deadline, pause = time.monotonic() + START_S, threading.Event()
        while (found := endpoints.remembered(self.settings.data)) is None or found.pid != child.pid:
            if child.poll() is not None:
                raise SimulationError(f"the registry did not start: {_tail(self._log)}")
            if time.monotonic() > deadline:
                text = f"the registry did not answer within {START_S:g} s: is this machine busy? "
                raise SimulationError(text + _tail(self._log))
            pause.wait(POLL_S)
        return found

    def client(self, url: str) -> Client:
        """Return a client with the admin's key."""
        key = (self.settings.secrets_directory / "admin.key").read_text("ascii").strip()
        ca = (self.settings.authority_directory / "ca.pem").read_text("ascii")
        return Client(url, key, ca)

    def lags(self) -> bool:
        """Say whether a device has not said that its newest desired state is durable."""
        with self._engine.connect() as connection:
            return bool(connection.exec_driver_sql(_LAGGING).scalar_one())

    def finals(self) -> dict[tuple[str, str], int]:
        """Return how often each device told the end of each deployment: it runs it, or will not."""
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql(_FINALS)
            return {(device, deployment): count for device, deployment, count in found}

    def records(self) -> dict[str, tuple[int, int]]:
        """Return how many records of each device are stored, and how many different ones."""
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql(_RECORDS)
            return {device: (count, different) for device, count, different in found}

    @contextlib.contextmanager
    def noting_change(self, device: str) -> Iterator[Moment]:
        """Note when a newer desired state of a device is stored: before it is published."""
        before, stored, over = self._generation(device), Moment(time.monotonic()), threading.Event()

        def look() -> None:
            with changes.of(self._database) as changed:
                while not over.is_set():
                    at = time.monotonic()
                    if changed.any() and self._generation(device) > before:
                        return
                    stored.at = at
                    over.wait(LOOK_S)

        watching = threading.Thread(target=look, name="change", daemon=True)
        watching.start()
        try:
            yield stored
        finally:
            over.set()
            watching.join()

    def _generation(self, device: str) -> int:
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql(_GENERATION, (device,)).scalar_one_or_none()
        return int(found or 0)

    def acknowledged(self, deadline: float, tick: Callable[[], object]) -> bool:
        """Wait until no device lags; return whether that was in time. `tick` may raise."""
        pause, tick_at = threading.Event(), 0.0
        with changes.of(self._database) as changed:
            while not changed.any() or self.lags():
                if (now := time.monotonic()) > deadline:
                    return False
                if now >= tick_at:
                    tick()
                    tick_at = now + TICK_S
                pause.wait(LOOK_S)
        return True

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """End it."""
        self._engine.dispose()
        if self._child is not None:
            children.stop(self._child, grace_s=STOP_S)


def _tail(path: Path) -> str:
    return path.read_text("utf-8", "replace")[-500:].strip()
