"""kill -9 of the agent, its worker, the registry or the broker, at random moments, while versions
are swapped and requests and files keep coming: nothing is lost, nothing is stored twice.

ROUNDS (30, on each broker) and SEED (drawn) are read from the environment, and printed with the
figures.
"""

import contextlib
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from cloud.client import Client
from cloud.errors import ClientError, UnreachableError
from cloud.shapes import NewDeployment
from runtime import files
from tests.support import bundles, parts, processes
from tests.support.processes import Agent, Registry, Traffic, eventually

ROUNDS = int(os.environ.get("ROUNDS", "30"))
SEED = int(os.environ.get("SEED", str(random.SystemRandom().randrange(1 << 32))))
VICTIMS = ("agent", "worker", "registry", "broker")
ROUND_S = 1.0
"""A kill falls anywhere into this time after the last deployment."""
MOST_SILENCE_S = 15.0
"""Far above a process start (1 s alone): the machine may be busy with other tests."""
ROWS = 5
MODULE = "matrix"
SETTINGS = {
    # A test that kills a worker every few seconds must not look like a crash loop.
    "PACKHORSE_AGENT_CRASH_LIMIT": "1000",
    "PACKHORSE_AGENT_STABLE_S": "0.5",
}


@dataclass
class Matrix:
    """One registry, one device, what was done to them and what they did."""

    registry: Registry
    agent: Agent
    rng: random.Random
    traffic: Traffic
    wanted: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    deployed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Why deployments could not be made."""
    items: list[str] = field(default_factory=list)

    def feed(self) -> None:
        """Put a file with some rows into the inbox, whole at once."""
        name = f"{len(self.items):06d}.csv"
        rows = "".join(f"{row},1,2,3\n" for row in range(ROWS))
        files.write_atomic(self.agent.data / "inbox" / name, rows.encode())
        self.items += [f"{name}:{row + 1}" for row in range(ROWS)]

    def toggle(self) -> None:
        """Deploy the other version; half the time, not if the registry happens to be away."""
        if self.rng.random() < 0.5:
            self.registry.await_ready()
        version = 2 if self.wanted == 1 else 1
        try:
            with Client(
                self.registry.url, self.registry.key, self.registry.ca_pem, timeout_s=5, attempts=1
            ) as client:
                deploy(client, version)
        except (UnreachableError, ClientError) as error:
            # Whether it was made is settled by the last deployment of all.
            self.refused[str(error)] += 1
            return
        self.wanted, self.deployed = version, self.deployed + 1

    def kill(self, victim: str) -> None:
        """Kill -9; what does not come back by itself is started again."""
        match victim:
            case "agent":
                self.agent.kill()
                self.agent.start()
            case "registry":
                self.registry.kill()
                self.registry.spawn()
            case "broker":
                self.registry.kill_broker()
            case _:
                for worker in self.agent.workers():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        worker.kill()
        self.killed[victim] += 1


def deploy(client: Client, version: int) -> str:
    wish = NewDeployment(model=MODULE, version=version, selector="site=matrix", soak_s=0.3)
    return client.deploy(wish).id


@pytest.fixture(params=["nats", "mosquitto"])
def matrix(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Matrix]:
    parts.require({"nats": "nats-server"}.get(request.param, request.param))
    rng = random.Random(SEED)
    with processes.scratch() as place, processes.registry(place, request.param) as registry:
        agent = Agent(
            place / "dev", registry, "dev-1", labels={"site": "matrix"}, settings=SETTINGS
        )
        agent.enrol()
        agent.start()
        traffic = Traffic(agent, MODULE, pause_s=0.01)
        try:
            with registry.client() as client:
                for version in (1, 2):
                    directory = tmp_path / str(version)
                    directory.mkdir()
                    bundles.write(
                        directory,
                        name=MODULE,
                        factor=float(version),
                        sources=["directory:?pattern=*.csv"],
                    )
                    assert processes.push(client, directory) == version
                deploy(client, 1)
            agent.await_answer(MODULE, 1)
            traffic.start()
            yield Matrix(registry, agent, rng, traffic, wanted=1)
        finally:
            traffic.stop()
            agent.stop()


@pytest.mark.slow
@pytest.mark.timeout(240 + ROUNDS * 8)
def test_nothing_is_lost_or_doubled_whatever_is_killed_whenever(
    matrix: Matrix, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    pause = threading.Event()
    for _ in range(ROUNDS):
        matrix.feed()
        matrix.toggle()
        pause.wait(matrix.rng.uniform(0.0, ROUND_S))
        matrix.kill(matrix.rng.choice(VICTIMS))

    final = settle(matrix)
    counts = count(matrix.registry)
    figures = {
        "matrix": request.node.callspec.id,
        "seed": SEED,
        "rounds": ROUNDS,
        "killed": dict(matrix.killed),
        "deployments": matrix.deployed,
        "deployments_refused": sum(matrix.refused.values()),
        "requests_answered": len(matrix.traffic.answered),
        "requests_without_answer": len(matrix.traffic.failures),
        "items": len(matrix.items),
        "longest_silence_s": round(matrix.traffic.longest_s, 2),
        "lost": sum(counts[name] == 0 for name in (*matrix.traffic.answered, *matrix.items)),
        "duplicated": sum(number > 1 for number in counts.values()),
    }
    with capsys.disabled():
        print("\n" + json.dumps(figures))  # noqa: T201 - the figures are a result of the test

    assert [name for name, number in counts.items() if number > 1] == []
    assert [name for name in matrix.traffic.answered if counts[name] == 0] == []
    assert [name for name in matrix.items if counts[name] == 0] == []
    assert matrix.agent.infer(MODULE, [1.0] * 4).version == str(final)
    assert matrix.traffic.longest_s < MOST_SILENCE_S, matrix.agent.tail()


def settle(matrix: Matrix) -> int:
    """Let all come back and converge; return the version that was asked for last."""
    registry, agent = matrix.registry, matrix.agent
    registry.await_ready()
    final = 2 if matrix.wanted == 1 else 1
    with registry.client() as client:
        deployment = deploy(client, final)
        agent.await_answer(MODULE, final)
        eventually(lambda: client.deployment(deployment).overview.complete, "it is reported")
    matrix.traffic.stop()

    def missing() -> set[str]:
        counts = count(registry)
        return {name for name in (*matrix.traffic.answered, *matrix.items) if not counts[name]}

    with contextlib.suppress(AssertionError):  # the test says what is missing
        eventually(lambda: not missing(), "all is stored", 90.0)
    return final


def count(registry: Registry) -> Counter[str]:
    """Return how often each request id and each source item is stored."""
    with registry.client() as client:
        records = processes.stored(client, model=MODULE)
    return Counter(name for one in records for name in (one.request, one.item) if name is not None)
