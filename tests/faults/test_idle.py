"""An agent with nothing to do leaves the disk alone, and ends when told. With real processes."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import commands, fleets, processes
from tests.support.fleets import Fleet
from tests.support.processes import Agent, eventually

IDLE_S = 12.0
HEARTBEAT_S = "2.0"
"""So that several reports fall into the time, each of which must be written nowhere."""
ON_DISK = "/var/tmp"


Traces = dict[str, tuple[int, ...]]


def traces(agent: Agent) -> Traces:
    """Return what any write leaves: times and size of each file and directory, and of the log."""
    found: Traces = {}
    for path in [agent.log, agent.data, *agent.data.rglob("*")]:
        seen = path.lstat()
        found[str(path)] = (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
    return found


def written_bytes(agent: Agent) -> int:
    """Return what agent and workers have had sent to the disk, by the kernel's account."""
    total = 0
    for pid in [agent.pid, *(worker.pid for worker in agent.workers())]:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))
    return total


@pytest.fixture
def disk() -> Iterator[Path]:
    """Give a directory on a disk: what other tests use may be in memory."""
    with commands.scratch(ON_DISK) as place:
        yield place


@pytest.mark.slow
def test_an_idle_agent_writes_nothing(fleet: Fleet, disk: Path) -> None:
    name = "idle"
    often = {"PACKHORSE_AGENT_HEARTBEAT_S": HEARTBEAT_S}
    agent = fleet.running(name, data=disk / name, settings=often)
    tick = threading.Event()

    def settled() -> bool:
        """What it had to do is done: the soak time is over, every record is acknowledged."""
        before = traces(agent)
        tick.wait(2.0)
        return traces(agent) == before

    eventually(settled, "it is idle")
    reported = fleet.client.device(name).reported_at
    before, bytes_before = traces(agent), written_bytes(agent)

    tick.wait(IDLE_S)

    assert traces(agent) == before
    assert written_bytes(agent) == bytes_before
    assert fleets.says(agent).connected
    assert fleet.client.device(name).reported_at != reported, "it was not dead"

    agent.infer(name, fleets.ROW, request="awake")
    eventually(lambda: traces(agent) != before, "a prediction is seen by this measure")
    eventually(lambda: written_bytes(agent) > bytes_before, "and by the kernel's account")

    def stored() -> set[str | None]:
        return {one.request for one in processes.stored(fleet.client, model=name)}

    eventually(lambda: "awake" in stored(), "the record is in the registry")


def test_an_agent_that_is_told_to_stop_ends_cleanly(fleet: Fleet) -> None:
    name = "stopped"
    agent = fleet.running(name)
    agent.infer(name, fleets.ROW, request="last")
    workers = agent.workers()

    assert agent.stop() == 0

    assert not any(worker.is_running() for worker in workers)
    assert not list((agent.data / "run").glob("*.sock"))
    eventually(lambda: fleet.client.device(name).presence == "offline", "it said goodbye")
    agent.start()
    agent.await_answer(name, 1)

    def stored() -> list[str]:
        return [one.request for one in processes.stored(fleet.client, model=name) if one.request]

    eventually(lambda: stored() == ["last"], "what it had in hand came through, once")
