"""A registry, its devices, and both command lines, for tests that look at what a person is told.

    with fleets.fleet() as fleet:
        agent = fleet.agent("dev-a")
        fleet.push("scale", factor=1.0)
        deployment = fleet.deploy("scale")
        fleet.until_stage(deployment, "running")
        assert fleet.packhorse("deployments", "show", deployment).code == 0

A deployment goes to the devices whose label `site` is the model's name. Whatever a program prints
or logs may hold no traceback: `require_quiet` fails if one does.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.client import Client
from cloud.shapes import DeviceProgress, NewDeployment
from edge_agent import status
from edge_agent.status import Status
from runtime.digests import Digest
from tests.support import bundles, parts, processes
from tests.support.processes import Agent, Registry

ROW = [1.0, 2.0, 3.0, 4.0]
TRACE = "Traceback (most recent call last)"
COMMAND_S = 240.0
"""A command that takes longer hangs; a release may wait for images and devices."""

Change = Callable[[Path], None]


@dataclass(frozen=True)
class Said:
    """What a command that has ended said."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line on stderr; fails if there is another number of lines, or a traceback."""
        assert TRACE not in self.out + self.err, self.err
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


class Fleet:
    """One registry and its devices."""

    def __init__(self, place: Path, registry: Registry, client: Client) -> None:
        """Keep everything below `place`."""
        self.place, self.registry, self.client = place, registry, client
        self.agents: list[Agent] = []
        self._numbers = itertools.count(1)

    def packhorse(self, *arguments: str) -> Said:
        """Run an operator's command."""
        return run("packhorse", *arguments, PACKHORSE_CONFIG=str(self.config))

    @property
    def config(self) -> Path:
        """The file by which an operator is logged in."""
        config = self.place / "login.json"
        if not config.exists():
            login = {"url": self.registry.url, "key": self.registry.key, "ca": self.registry.ca_pem}
            config.write_text(json.dumps(login))
        return config

    def agent(
        self,
        name: str,
        *,
        data: Path | None = None,
        site: str | None = None,
        starts: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> Agent:
        """Enrol a device, with its own name as `site` unless told otherwise, and start it."""
        directory = data or self.place / name
        labels = {"site": site or name}
        made = Agent(directory, self.registry, name, labels=labels, settings=settings)
        # Beside the data, not in it: that may be a full disk.
        made.log = self.place / f"{name}.log"
        self.agents.append(made)
        made.enrol()
        if starts:
            made.start()
        return made

    def bundle(
        self, name: str, *, factor: float = 1.0, change: Change | None = None, **how: Any
    ) -> Path:
        """Write a bundle that answers `factor` times the sum of a row; `change` may spoil it."""
        directory = self.place / "sources" / f"{name}-{next(self._numbers)}"
        directory.mkdir(parents=True)
        bundles.write(directory, name=name, factor=factor, **how)
        if change is not None:
            change(directory)
        return directory

    def push(self, name: str, **how: Any) -> int:
        """Push a bundle as `bundle` makes it; return its version."""
        return processes.push(self.client, self.bundle(name, **how))

    def deploy(self, name: str) -> str:
        """Deploy the newest version to the site that is called like the model."""
        wish = NewDeployment(model=name, selector=f"site={name}", soak_s=0.5)
        return self.client.deploy(wish).id

    def running(self, name: str, **how: Any) -> Agent:
        """Return a new device that runs version 1 of a model of its own name."""
        agent = self.agent(name, **how)
        self.push(name)
        self.deploy(name)
        agent.await_answer(name, 1)
        return agent

    def progress(self, deployment: str) -> DeviceProgress:
        """Return where the only device of a deployment is."""
        (only,) = self.client.deployment(deployment).devices
        return only

    def until_stage(self, deployment: str, stage: str) -> DeviceProgress:
        """Wait until the only device of a deployment is there; return how it is."""
        processes.eventually(
            lambda: self.progress(deployment).stage == stage, f"{deployment} is {stage}"
        )
        return self.progress(deployment)

    def until_reason(self, deployment: str, text: str) -> DeviceProgress:
        """Wait until the only device of a deployment gives a reason with this in it."""
        processes.eventually(
            lambda: text in self.progress(deployment).reason, f"{deployment} says {text!r}"
        )
        return self.progress(deployment)

    def require_quiet(self) -> None:
        """Fail if anything that ran here has logged a traceback."""
        logs = [self.registry.log, *(agent.log for agent in self.agents)]
        for agent in self.agents:
            logs += (agent.data / "logs").glob("*.log")
        for log in logs:
            text = log.read_text(errors="replace") if log.exists() else ""
            at = text.find(TRACE)
            assert at < 0, f"{log.name}: {text[max(0, at - 500) : at + 3000]}"


def run(program: str, *arguments: str, given: str | None = None, **environment: str) -> Said:
    """Run a console command to its end; `given` is its stdin."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / program), *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
        env={**os.environ, **environment},
    )
    return Said(done.returncode, done.stdout, done.stderr)


def says(agent: Agent) -> Status:
    """Return what an agent at work says of itself, as `packhorse-agent status` asks it."""
    return status.ask(agent.data / "run")


def blobs(data: Path) -> set[Digest]:
    """Return the blobs in a registry's or an agent's directory; fails on anything half written."""
    found = [path for path in (data / "blobs").rglob("*") if path.is_file()]
    assert [path.name for path in found if path.name.startswith(".")] == []
    return {Digest(path.name) for path in found}


def tree(directory: Path) -> set[str]:
    """Return the paths of all files below a directory."""
    if not directory.exists():
        return set()
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix() for path in files}


@contextlib.contextmanager
def fleet(environment: Mapping[str, str] | None = None) -> Iterator[Fleet]:
    """Run a registry with the embedded broker; everything ends with the block.

    `environment` are further variables of the registry's.
    """
    parts.require("nats-server")
    with (
        contextlib.ExitStack() as ending,
        processes.scratch() as place,
        processes.registry(place, "nats", environment=environment) as registry,
        registry.client() as client,
    ):
        made = Fleet(place, registry, client)
        ending.callback(made.agents.clear)
        try:
            yield made
        finally:
            for agent in made.agents:
                agent.kill()


@contextlib.contextmanager
def of_one_test(fleet: Fleet) -> Iterator[Fleet]:
    """Give a fleet to one test: its agents end with it, and nothing may have logged a traceback."""
    try:
        yield fleet
        for agent in fleet.agents:
            agent.stop()
        fleet.require_quiet()
    finally:
        for agent in fleet.agents:
            agent.kill()
        fleet.agents.clear()
