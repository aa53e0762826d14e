"""Deltas that go wrong between a real registry and a real device: the whole comes, and it is said.

Also: a registry that is killed while it makes them.
"""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud.shapes import Device
from runtime.bundle import build
from runtime.digests import Digest
from tests.support import fleets, processes
from tests.support.fleets import Fleet
from tests.support.processes import Agent, eventually

SHARED = random.Random(1).randbytes(100_000)
"""Of a file that versions share, but for a little."""
numbers = itertools.count(1)


@dataclass(frozen=True)
class Version:
    """What was pushed, and the blob of its large file."""

    bundle: Digest
    blob: Digest


def push(fleet: Fleet, name: str) -> Version:
    """Push the next version, which differs a little from all others."""
    number = next(numbers)
    content = SHARED[:50_000] + random.Random(number).randbytes(2000) + SHARED[52_000:]

    def add(directory: Path) -> None:
        (directory / "table.bin").write_bytes(content)

    directory = fleet.bundle(name, factor=float(number), change=add)
    processes.push(fleet.client, directory)
    built = build.build(directory)
    (blob,) = [entry.sha256 for entry in built.index.files if entry.path == "table.bin"]
    return Version(built.digest, blob)


def deltas(fleet: Fleet, new: Version, old: Version, suffix: str) -> list[Path]:
    """Return the files of all deltas from one version to another that the registry keeps."""
    encodings = fleet.registry.data / "encodings"
    return sorted(encodings.glob(f"*/*/{new.blob}.{old.blob}{suffix}"))


def updating(fleet: Fleet, name: str) -> tuple[Agent, Version, Version]:
    """Return a device that runs version 1, and a version 2 with a delta, not yet deployed."""
    agent = fleet.agent(name)
    old = push(fleet, name)
    fleet.deploy(name)
    agent.await_answer(name, 1)
    eventually(
        lambda: bool(fleet.client.device(name).modules), f"the registry knows what {name} runs"
    )
    new = push(fleet, name)
    eventually(lambda: bool(deltas(fleet, new, old, ".parts")), "there is a delta")
    return agent, old, new


def update(fleet: Fleet, agent: Agent) -> Device:
    """Deploy version 2; return the device once it runs and has said so."""
    deployment = fleet.deploy(agent.name)
    agent.await_answer(agent.name, 2)
    fleet.until_stage(deployment, "running")
    return fleet.client.device(agent.name)


def spent(device: Device) -> tuple[int, int]:
    """Return the bytes that came for the wanted version, and those of the whole."""
    (module,) = device.modules
    assert module.transfer is not None
    return module.transfer.received_bytes, module.transfer.whole_bytes


def test_an_update_travels_as_a_delta_and_the_device_says_what_it_saved(fleet: Fleet) -> None:
    agent, _, _ = updating(fleet, "delta-good")

    told = update(fleet, agent)

    received, whole = spent(told)
    assert received < 0.1 * whole
    assert told.troubles == []
    shown = fleet.packhorse("devices", "show", agent.name).out
    assert "saved" in shown


def spoil_the_base(fleet: Fleet, agent: Agent, old: Version, _new: Version) -> None:
    """Change a byte of what the device has on its disk."""
    flip_a_bit(agent.data / "blobs" / old.blob[:2] / old.blob)
    assert fleet.agents


def spoil_the_delta(fleet: Fleet, _agent: Agent, old: Version, new: Version) -> None:
    """Change a byte of every delta that the registry has."""
    for path in deltas(fleet, new, old, ".data"):
        flip_a_bit(path)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(spoil_the_base, "on this disk: wanted"), (spoil_the_delta, "fetched 3 times")],
)
def test_a_delta_that_does_not_work_costs_the_whole_once_and_is_told(
    fleet: Fleet, spoil: Callable[[Fleet, Agent, Version, Version], None], words: str
) -> None:
    name = spoil.__name__.replace("_", "-")
    agent, old, new = updating(fleet, name)
    spoil(fleet, agent, old, new)

    told = update(fleet, agent)

    received, whole = spent(told)
    assert whole < received < 1.3 * whole
    (trouble,) = [text for text in told.troubles if text.startswith(f"{name}:")]
    assert f"of table.bin from {old.blob[:12]} failed, fetched the whole" in trouble
    assert words in trouble
    assert words in " ".join(fleet.packhorse("devices", "show", name).out.split())
    assert fleets.tree(agent.data / "downloads") == set()


def test_a_registry_that_is_killed_while_it_makes_deltas_goes_on_at_the_next_start(
    fleet: Fleet,
) -> None:
    name = "delta-killed"
    agent = fleet.agent(name)
    old = push(fleet, name)
    fleet.deploy(name)
    agent.await_answer(name, 1)
    eventually(lambda: bool(fleet.client.device(name).modules), "the registry knows what it runs")
    new = push(fleet, name)
    eventually(lambda: bool(fleet.registry.descendants("cloud.deltas.pack")), "it makes one")
    fleet.registry.kill()
    left = fleet.registry.data / "incoming"
    fleet.registry.start()

    eventually(lambda: bool(deltas(fleet, new, old, ".parts")), "there is a delta")
    told = update(fleet, agent)

    received, whole = spent(told)
    assert received < 0.1 * whole
    eventually(lambda: fleets.tree(left) == set(), "nothing half made is left")
