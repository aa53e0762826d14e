"""The demo's processes: one registry, N agents, each with a directory and a log of its own.

    DIRECTORY/registry/       what `packhorse serve --data` keeps      DIRECTORY/registry.log
    DIRECTORY/dev-1/          what `packhorse-agent --data` keeps      DIRECTORY/dev-1.log
    DIRECTORY/sensors/        what each device's sensor will measure

All of them die with the demo, however it ends.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloud import endpoints, shapes
from cloud.client import Client
from cloud.demo.errors import DemoError
from runtime import children

START_S = 60.0
ENROL_S = 60.0
STOP_S = 15.0
POLL_S = 0.05


@dataclass
class Stage:
    """Everything that runs."""

    directory: Path
    devices: tuple[str, ...]
    url: str = ""
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.directory / f"{name}.log"

    def data(self, name: str) -> Path:
        """Return the data directory of a process."""
        return self.directory / name

    @property
    def ca_file(self) -> Path:
        """The registry's CA certificate."""
        return self.data("registry") / "authority" / "ca.pem"

    @property
    def key_file(self) -> Path:
        """The admin's key."""
        return self.data("registry") / "secrets" / "admin.key"

    def sensor(self, device: str) -> Path:
        """Return the file that stands for a device's motion sensor."""
        return self.directory / "sensors" / f"{device}.npz"

    def inbox(self, device: str) -> Path:
        """Return where a device's digits source looks."""
        return self.data(device) / "inbox" / "digits"

    def socket(self, device: str, module: str) -> Path:
        """Return the Unix socket on which a device answers for a module."""
        return self.data(device) / "run" / f"{module}.sock"

    def start_registry(self) -> None:
        """Return once the registry answers."""
        anywhere = ("--host", "127.0.0.1", "--port", "0", "--broker-port", "0")
        data = str(self.data("registry"))
        process = self._start("registry", ["packhorse", "serve", "--data", data, *anywhere])
        deadline, pause = time.monotonic() + START_S, threading.Event()
        while True:
            found = endpoints.remembered(self.data("registry"))
            if found is not None and found.pid == process.pid:
                self.url = found.url
                return
            self.require_alive()
            if time.monotonic() > deadline:
                raise DemoError(
                    f"the registry was not ready in {START_S:g} s", self.log("registry")
                )
            pause.wait(POLL_S)

    def client(self) -> Client:
        """Return a client with the admin's key."""
        key = self.key_file.read_text("ascii").strip()
        return Client(self.url, key, self.ca_file.read_text("ascii"))

    def enrol(self, registry: Client) -> None:
        """Enrol every device with a token of its own, all at once."""
        running = {}
        for device in self.devices:
            wish = shapes.NewToken(labels={"site": "demo"}, device_id=device)
            token = registry.make_token(wish).token
            who = ("--data", str(self.data(device)), "--id", device)
            running[device] = self._start(
                device,
                ["packhorse-agent", "enrol", *who, "--url", self.url],
                # Not an argument: those can be seen by everybody on this machine.
                environment={"PACKHORSE_AGENT_TOKEN": token},
            )
        for device, process in running.items():
            try:
                failed = process.wait(ENROL_S) != 0
            except subprocess.TimeoutExpired:
                failed = True
            del self._processes[device]
            if failed:
                raise DemoError(f"{device} could not enrol", self.log(device))

    def start_agents(self) -> None:
        """Start the agents of all devices."""
        for device in self.devices:
            self._start(
                device,
                ["packhorse-agent", "run", "--data", str(self.data(device))],
                environment={"WRIST_SENSOR": str(self.sensor(device))},
            )

    def train(self, directory: Path) -> None:
        """Begin to train the models; `wait_trained` ends it."""
        # The matrices are so small that more threads would only wait for one another.
        self._start(
            "training",
            [sys.executable, "-m", "cloud.demo.train", str(directory)],
            environment={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )

    def wait_trained(self, timeout_s: float) -> None:
        """Return when the models are there."""
        try:
            failed = self._processes["training"].wait(timeout_s) != 0
        except subprocess.TimeoutExpired:
            failed = True
        del self._processes["training"]
        if failed:
            raise DemoError("the models could not be trained", self.log("training"))

    def require_alive(self) -> None:
        """Raise DemoError if a process has ended that should not have."""
        for name, process in self._processes.items():
            if process.poll() not in {None, 0}:
                raise DemoError(f"{name} ended with code {process.returncode}", self.log(name))

    def stop(self) -> None:
        """End everything: agents first, so that the registry hears their last words."""
        others = [process for name, process in self._processes.items() if name != "registry"]
        registry = [process for name, process in self._processes.items() if name == "registry"]
        for group in (others, registry):
            for process in group:
                process.terminate()
            for process in group:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_S)
                if process.poll() is None:
                    process.kill()
                    process.wait()
        self._processes.clear()

    def _start(
        self, name: str, argv: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        program, *arguments = argv
        with self.log(name).open("ab") as log:
            process = children.spawn(
                [find(program), *arguments],
                env={**os.environ, **(environment or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes[name] = process
        return process


def find(program: str) -> str:
    """Return the path of a program: beside this Python, or on PATH."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(program, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if found is None:
        raise DemoError(f"{program} is not installed: pip install 'packhorse[demo]'")
    return found
