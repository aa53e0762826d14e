"""Devices: real agents in processes of their own, real workers, and a folder for a registry.

with agents.device(tmp_path) as device:
    device.start()
    device.want(device.bundle("one", factor=2.0))
    device.until_running()
    assert device.infer([1, 2]) == [2, 4]
"""

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from edge_agent import predict, status
from edge_agent.errors import NotRunningError
from runtime import children
from runtime.bundle.build import build
from runtime.errors import LinkError
from runtime.messages import Desired, ModuleReport, ModuleSpec, Phase, Reported
from tests.support import bundle_sources, uplinks
from tests.support.httpfiles import FileServer

ROOT = Path(__file__).resolve().parents[2]
MODULE = "scale"
PATIENCE_S = 60.0


class Device:
    """One device; its agent may be started and killed again and again."""

    def __init__(self, directory: Path, server: FileServer, data: Path) -> None:
        self.directory, self.server, self.data = directory, server, data
        self.folder = directory / "registry"
        self.folder.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self._generations = itertools.count(1)
        self._settings: dict[str, Any] = {}

    def start(self, *, die: str = "", clock: float | None = None, **settings: Any) -> None:
        """Start the agent; `die`: when it shall be killed (tests.support.agent_process).

        `clock` is what the wall clock shows at the start; None: the truth.
        """
        self._settings.update(settings)
        arguments = [str(self.data), str(self.folder), f"{self.server.url}/ask"]
        arguments += ["--settings", msgspec.json.encode(self._settings).decode(), "--die", die]
        if clock is not None:
            arguments += ["--clock", str(clock)]
        with (self.directory / "agent.log").open("ab") as printed:
            self.process = children.spawn(
                [sys.executable, "-m", "tests.support.agent_process", *arguments],
                cwd=ROOT,
                stdout=printed,
                stderr=printed,
            )

    def kill(self) -> None:
        """Kill the agent as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def wait_for_death(self) -> None:
        """Return when the agent has killed itself."""
        process = self.process
        assert process is not None
        self.until(lambda: process.poll() is not None, "it dies")
        assert process.returncode == -signal.SIGKILL, self.log()

    def stop(self) -> int:
        """End the agent in peace; return its exit code."""
        assert self.process is not None
        return children.stop(self.process, grace_s=20)

    def bundle(
        self, name: str, *, factor: float = 2.0, change: Callable[[Path], None] | None = None
    ) -> Path:
        """Return the directory of a bundle that multiplies by a factor; `change` may spoil it."""
        directory = bundle_sources.write_checked_bundle(self.directory / name, factor=factor)
        if change is not None:
            change(directory)
        return directory

    def want(self, *bundles: Path, module: str = MODULE, **fields: Any) -> None:
        """Let the registry want the last of these bundles, the others being older versions."""
        self.want_all(*(self.spec(bundle, module=module, **fields) for bundle in bundles[-1:]))

    def spec(self, bundle: Path, *, module: str = MODULE, **fields: Any) -> ModuleSpec:
        """Return a wish for a bundle, which is served from now on."""
        self.server.add(bundle)
        wish: dict[str, Any] = {"version": 1, "model": bundle.name, "deployment": "d1"}
        wish |= {"soak_s": 1.0} | fields
        return ModuleSpec(name=module, bundle=build(bundle).digest, **wish)

    def want_all(self, *specs: ModuleSpec) -> None:
        """Let the registry want just these modules."""
        generation = next(self._generations)
        uplinks.desire(self.folder, Desired("dev-a", generation, time.time(), specs))

    def status(self) -> Reported:
        """Return what the agent says of itself; raise NotRunningError if it does not run."""
        return status.ask(self.data / "run").reported

    def module(self, name: str = MODULE) -> ModuleReport:
        """Return what the agent says of a module."""
        return next(module for module in self.status().modules if module.name == name)

    def until(self, holds: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until something holds; what does not answer yet does not hold."""
        deadline, tick = time.monotonic() + timeout_s, threading.Event()
        while True:
            with contextlib.suppress(NotRunningError, StopIteration, LinkError):
                if holds():
                    return
            assert time.monotonic() < deadline, f"not in {timeout_s:g} s: {what}\n{self.log()}"
            tick.wait(0.02)

    def until_running(self, bundle: Path, *, name: str = MODULE) -> None:
        """Wait until a bundle runs."""
        digest = build(bundle).digest

        def runs() -> bool:
            told = self.module(name)
            running = told.running is not None and told.running.bundle == digest
            return told.phase is Phase.RUNNING and running

        self.until(runs, f"{bundle.name} runs")

    def infer(self, row: list[float], *, module: str = MODULE, request: str = "") -> list[float]:
        """Return a model's answer; raise NotRunningError or LinkError if there is none."""
        x = {"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}
        body = {"inputs": [x]} | ({"id": request} if request else {})
        code, answer = predict.infer(self.data / "run", module, json.dumps(body).encode())
        if code != 200:
            raise LinkError(f"{code}: {answer[:200]!r}")
        values: list[float] = json.loads(answer)["outputs"][0]["data"]
        return values

    def log(self) -> str:
        """Return the end of what the agent and its workers printed."""
        printed = [self.directory / "agent.log", *sorted((self.data / "logs").glob("*.log"))]
        return "\n".join(path.read_text()[-6000:] for path in printed if path.exists())


@contextlib.contextmanager
def device(*, data: Path | None = None) -> Iterator[Device]:
    """Give a device, in a directory short enough for Unix sockets; ends what runs on it.

    `data` is the agent's own directory, where it shall be another.
    """
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        directory = Path(name)
        with FileServer(directory / "server").running() as server:
            made = Device(directory, server, data or directory / "data")
            try:
                yield made
            finally:
                if made.process is not None:
                    made.kill()
