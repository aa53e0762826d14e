"""Damaged parts and forged wishes on their way to a device, with real processes.

The device says what is wrong, goes on with what it ran, and mends itself as soon as it can.
"""

import contextlib
import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent import enrol
from runtime import files, messages, topics
from runtime.bundle import build
from runtime.digests import Digest
from runtime.link import LinkSettings
from runtime.messages import Desired, ModuleSpec
from runtime.topics import Channel, DeviceId
from tests.support import fleets, links, processes
from tests.support.fleets import Fleet
from tests.support.processes import Agent, Traffic, eventually

UNKNOWN = Digest("ab" * 32)
factors = itertools.count(2)
"""No two tests share a model, or one would damage what the other uses."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Fleet]:
    """One registry for all tests here; each uses names of its own."""
    with fleets.fleet() as made:
        yield made


@pytest.fixture
def fleet(shared: Fleet) -> Iterator[Fleet]:
    with fleets.of_one_test(shared) as given:
        yield given


@dataclass(frozen=True)
class Pushed:
    """A version 2, and where the registry keeps what it sends of it."""

    bundle: Digest
    model: Digest
    encodings: Path

    @property
    def encoded(self) -> Path:
        """Path of the encoded model."""
        return self.path(self.model, ".data")

    def path(self, blob: Digest, suffix: str) -> Path:
        """Return where a part table (".parts") or the encoded bytes (".data") are."""
        return self.encodings / "zstd" / blob[:2] / f"{blob}{suffix}"


def push_second(fleet: Fleet, name: str) -> Pushed:
    """Return the version once the registry has made ready what it will send."""
    directory = fleet.bundle(name, factor=float(next(factors)))
    assert processes.push(fleet.client, directory) == 2
    built = build.build(directory)
    (model,) = [entry.sha256 for entry in built.index.files if entry.path == "model.onnx"]
    pushed = Pushed(built.digest, model, fleet.registry.data / "encodings")
    for blob in (pushed.bundle, model):
        eventually(pushed.path(blob, ".parts").exists, f"{blob} is encoded")
    return pushed


def flip_a_bit(encoded: Path) -> None:
    data = bytearray(encoded.read_bytes())
    data[len(data) // 2] ^= 1
    encoded.write_bytes(data)


def lose_the_end(encoded: Path) -> None:
    """Leave zeros, as a power cut does."""
    size = encoded.stat().st_size
    os.truncate(encoded, size // 2)
    os.truncate(encoded, size)


@pytest.mark.parametrize("damage", [flip_a_bit, lose_the_end])
def test_a_part_that_is_damaged_is_refused_until_the_registry_has_it_whole_again(
    fleet: Fleet, damage: Callable[[Path], None]
) -> None:
    name = damage.__name__.replace("_", "-")
    agent = fleet.running(name)
    before = fleets.tree(agent.data / "bundles")
    pushed = push_second(fleet, name)
    whole = pushed.encoded.read_bytes()
    damage(pushed.encoded)

    deployment = fleet.deploy(name)
    told = fleet.until_reason(deployment, f"part 0 of blob {pushed.model}, fetched 3 times")

    assert (told.stage, told.retrying) == ("fetching", True)
    assert "got other bytes" in told.reason
    assert agent.infer(name, fleets.ROW).version == "1"
    assert fleets.tree(agent.data / "bundles") == before
    assert pushed.model not in fleets.blobs(agent.data)

    files.write_atomic(pushed.encoded, whole)
    agent.await_answer(name, 2)
    fleet.until_stage(deployment, "running")
    assert fleets.tree(agent.data / "downloads") == set()


def test_a_part_that_is_cut_short_is_made_again_before_it_is_sent(fleet: Fleet) -> None:
    name = "cut-short"
    agent = fleet.running(name)
    pushed = push_second(fleet, name)
    whole = pushed.encoded.read_bytes()
    os.truncate(pushed.encoded, len(whole) // 2)

    fleet.deploy(name)

    agent.await_answer(name, 2)
    assert pushed.encoded.read_bytes() == whole


def lose_the_rows(fleet: Fleet, pushed: Pushed, aside: Path) -> Callable[[], None]:
    """Make the registry forget a bundle, as a database from an older backup has."""
    path = fleet.registry.data / "registry.db"
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as database, database:
        where = "WHERE bundle = ?"
        rows = database.execute(f"SELECT * FROM bundle_blob {where}", (pushed.bundle,)).fetchall()
        database.execute(f"DELETE FROM bundle_blob {where}", (pushed.bundle,))

    def put_back() -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as database, database:
            marks = ", ".join("?" for _ in rows[0])
            database.executemany(f"INSERT INTO bundle_blob VALUES ({marks})", rows)

    return put_back


def lose_the_files(fleet: Fleet, pushed: Pushed, aside: Path) -> Callable[[], None]:
    """Take the blobs of a bundle away, as a disk that is not mounted does."""
    blob = pushed.bundle
    paths = [fleet.registry.data / "blobs" / blob[:2] / blob]
    paths += [pushed.path(blob, ".data"), pushed.path(blob, ".parts")]
    for path in paths:
        shutil.move(path, aside / path.name)

    def put_back() -> None:
        for path in paths:
            shutil.move(aside / path.name, path)

    return put_back


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lose", "words"),
    [
        (lose_the_rows, "desired state for an unknown bundle: lose-the-rows shall run"),
        (lose_the_files, "this registry has lost blob"),
    ],
)
def test_a_bundle_that_the_registry_does_not_have_is_waited_for(
    fleet: Fleet,
    tmp_path: Path,
    lose: Callable[[Fleet, Pushed, Path], Callable[[], None]],
    words: str,
) -> None:
    name = lose.__name__.replace("_", "-")
    agent = fleet.running(name)
    pushed = push_second(fleet, name)
    before = fleets.tree(agent.data / "bundles"), fleets.blobs(agent.data)
    put_back = lose(fleet, pushed, tmp_path)

    deployment = fleet.deploy(name)
    told = fleet.until_reason(deployment, words)

    assert (told.stage, told.retrying) == ("fetching", True)
    assert pushed.bundle in told.reason
    assert agent.infer(name, fleets.ROW).version == "1"
    assert (fleets.tree(agent.data / "bundles"), fleets.blobs(agent.data)) == before
    put_back()
    agent.await_answer(name, 2)
    fleet.until_stage(deployment, "running")


def forge(fleet: Fleet, agent: Agent, payload: bytes) -> None:
    """Publish a desired state to a device with the registry's own rights."""
    identity = enrol.load(agent.data)
    assert identity is not None
    authority = fleet.registry.data / "authority"
    settings = LinkSettings(
        host=identity.broker_host,
        port=identity.broker_port,
        client_id="forger",
        ca_file=authority / "ca.pem",
        cert_file=authority / "registry.pem",
        key_file=authority / "registry.key",
    )
    with links.linked(settings, links.Mailbox()) as link:
        link.publish(topics.render(DeviceId(agent.name), Channel.DESIRED), payload)


def desired(agent: Agent, generation: int, **changes: object) -> bytes:
    """Return a wish for an unknown bundle."""
    spec = ModuleSpec(agent.name, UNKNOWN, agent.name, 7, "forged")
    wish = {"device": agent.name, "issued_at": 1.8e9, "modules": (spec,)} | changes
    return messages.encode(Desired(generation=generation, **wish))  # type: ignore[arg-type]


def test_a_forged_wish_for_an_unknown_bundle_changes_nothing_and_is_set_right(fleet: Fleet) -> None:
    name = "forged"
    agent = fleet.running(name)
    before = fleets.tree(agent.data / "bundles"), fleets.blobs(agent.data)
    taken = fleets.says(agent).reported.generation
    traffic = Traffic(agent, name, pause_s=0.01)
    traffic.start()

    forge(fleet, agent, desired(agent, taken + 5))

    try:
        eventually(
            lambda: fleets.says(agent).reported.generation > taken + 5, "the registry has the word"
        )
        eventually(
            lambda: fleets.says(agent).reported.modules[0].version == 1, "and says what shall run"
        )
    finally:
        traffic.stop()
    assert traffic.failures == []
    assert set(traffic.answered.values()) == {"1"}
    assert (fleets.tree(agent.data / "bundles"), fleets.blobs(agent.data)) == before
    assert fleets.tree(agent.data / "downloads") == set()


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (lambda _agent: b"\xff\x00 no JSON at all", ["Desired", "ignored", "runs on"]),
        (lambda agent: desired(agent, 9)[:-9], ["Desired", "ignored", "runs on"]),
        (
            lambda agent: desired(agent, 9) + b" " * messages.MAX_MESSAGE_BYTES,
            ["Desired", "bytes", "at most 262144", "ignored"],
        ),
        (
            lambda agent: desired(agent, 9, device="somebody-else"),
            ["desired.device", "somebody-else", "this device is", "ignored"],
        ),
        (
            lambda agent: desired(agent, 9, format=99),
            ["desired.format", "99", "upgrade", "ignored"],
        ),
    ],
    ids=["garbage", "cut", "oversized", "another-device", "future-format"],
)
def test_a_wish_that_cannot_be_meant_is_ignored_and_reported(
    fleet: Fleet,
    request: pytest.FixtureRequest,
    payload: Callable[[Agent], bytes],
    words: list[str],
) -> None:
    name = f"wish-{request.node.callspec.id}"
    agent = fleet.running(name)
    journal = (agent.data / "journal.json").read_bytes()

    forge(fleet, agent, payload(agent))

    def troubles() -> str:
        return "\n".join(fleet.client.device(name).troubles)

    eventually(lambda: all(word in troubles() for word in words), f"{words} is reported")
    shown = fleets.run("packhorse-agent", "status", "--data", str(agent.data))
    assert shown.code == 0
    assert all(word in shown.out for word in words), shown.out
    assert agent.infer(name, fleets.ROW).version == "1"
    assert (agent.data / "journal.json").read_bytes() == journal

    fleet.push(name, factor=2.0)
    fleet.deploy(name)
    agent.await_answer(name, 2)
    eventually(lambda: troubles() == "", "a good wish ends the trouble")


@pytest.mark.parametrize("step", [-1, 0])
def test_a_wish_that_is_not_newer_changes_nothing(fleet: Fleet, step: int) -> None:
    name = f"older-{-step}"
    agent = fleet.running(name)
    taken = fleets.says(agent).reported.generation
    journal = (agent.data / "journal.json").read_bytes()
    said = fleet.client.device(name).reported_at

    forge(fleet, agent, desired(agent, taken + step))

    eventually(lambda: fleet.client.device(name).reported_at != said, "the device reports again")
    assert fleets.says(agent).reported.generation == taken
    assert (agent.data / "journal.json").read_bytes() == journal
    assert agent.infer(name, fleets.ROW).version == "1"
    assert fleets.says(agent).reported.modules[0].version == 1
