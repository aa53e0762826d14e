"""A device whose disk is full, with real processes and a real, small file system."""

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent import journal
from tests.support import filesystems, fleets, processes
from tests.support.fleets import Fleet
from tests.support.processes import Agent, eventually

MIB = 1 << 20
DISK_MB = 40
RESERVE_MB = 12
SETTINGS = {"PACKHORSE_AGENT_RESERVE_MB": str(RESERVE_MB), "PACKHORSE_AGENT_HEARTBEAT_S": "2.0"}

ASKED = 200


@pytest.fixture
def disk(fleet: Fleet) -> Iterator[Path]:
    """A file system of its own, unmounted after what runs on it has ended."""
    with filesystems.of_size(megabytes=DISK_MB) as place:
        yield place
        for agent in fleet.agents:
            agent.stop()
        fleet.require_quiet()


def fill(disk: Path) -> Path:
    """Write until there is no room for another byte."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (MIB, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\xff" * size)
    assert os.statvfs(disk).f_bavail == 0
    return filler


def ask(agent: Agent, request: str) -> str:
    """Return the version that answers."""
    return agent.infer(agent.name, fleets.ROW, request=request).version


def stored(fleet: Fleet, name: str) -> list[str]:
    """Return the requests whose records are in the registry."""
    return [one.request for one in processes.stored(fleet.client, model=name) if one.request]


def test_a_bundle_that_does_not_fit_is_refused_before_a_byte_of_it_is_written(
    fleet: Fleet, disk: Path
) -> None:
    name = "too-large"
    agent = fleet.running(name, data=disk / "agent", settings=SETTINGS)
    before = fleets.tree(agent.data / "bundles")
    size = (DISK_MB - 4) * MIB

    def grow(directory: Path) -> None:
        (directory / "table.bin").write_bytes(random.Random(1).randbytes(size))

    fleet.push(name, factor=2.0, change=grow)
    deployment = fleet.deploy(name)
    told = fleet.until_reason(deployment, "make room")

    assert (told.stage, told.retrying) == ("fetching", True)
    needed, free = (int(word) for word in told.reason.split() if word.isdigit())
    assert needed >= 2 * size + RESERVE_MB * MIB
    assert 0 < free < DISK_MB * MIB
    assert told.reason.startswith(f"disk: {agent.data}")
    assert ask(agent, "too-large") == "1"
    assert fleets.tree(agent.data / "bundles") == before
    held = sum(path.stat().st_size for path in agent.data.rglob("*") if path.is_file())
    assert held < 4 * MIB, "nothing of it is there"

    fleet.push(name, factor=3.0)
    fleet.deploy(name)
    agent.await_answer(name, 3)


def test_a_device_with_a_full_disk_answers_and_says_so_and_mends_itself(
    fleet: Fleet, disk: Path
) -> None:
    name = "full"
    agent = fleet.running(name, data=disk / "agent", settings=SETTINGS)
    ask(agent, "before")
    eventually(lambda: "before" in stored(fleet, name), "the record is in the registry")
    filler = fill(disk)

    assert {ask(agent, f"full-{n}") for n in range(ASKED)} == {"1"}

    def said() -> str:
        found = fleet.client.device(name)
        return "\n".join([*found.troubles, *found.drops])

    eventually(lambda: f"disk: 0 MiB free below {agent.data}" in said(), "it says what to do")
    eventually(lambda: "spool_full" in said(), "and that it drops records")
    fleet.push(name, factor=2.0)
    deployment = fleet.deploy(name)
    told = fleet.until_reason(deployment, "0 free: make room")
    assert (told.stage, told.retrying) == ("fetching", True)
    dropped = fleets.says(agent).reported.drops["spool_full"]

    agent.kill()
    saved = journal.read_file(agent.data / "journal.json")
    assert saved.desired is not None
    assert saved.desired.generation == fleet.client.device(name).generation
    agent.start()
    agent.await_answer(name, 1)
    assert ask(agent, "still-full") == "1"

    filler.unlink()
    agent.await_answer(name, 2)
    assert fleet.until_stage(deployment, "running").running is not None
    ask(agent, "after")
    eventually(lambda: "after" in stored(fleet, name), "records are kept again")
    eventually(lambda: fleet.client.device(name).troubles == [], "the trouble is over")
    found = stored(fleet, name)
    assert len(found) == len(set(found))
    assert dropped == ASKED - sum(request.startswith("full-") for request in found)
