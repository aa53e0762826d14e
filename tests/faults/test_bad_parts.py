"""Parts that are damaged and bundles that are gone, in the registry, with real processes.

The device says what is wrong, goes on with what it ran, and mends itself as soon as it can.
"""

import contextlib
import itertools
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime import files
from runtime.bundle import build
from runtime.digests import Digest
from tests.support import fleets, processes
from tests.support.fleets import Fleet
from tests.support.processes import eventually

factors = itertools.count(2)
"""No two tests share a model, or one would damage what the other uses."""


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


def lose_the_rows(fleet: Fleet, pushed: Pushed, _aside: Path) -> Callable[[], None]:
    """Make the registry forget a bundle, as a database from an older backup has."""
    path = fleet.registry.data / "registry.db"
    key = (pushed.bundle,)
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as database, database:
        find = "SELECT bundle, blob, size_bytes FROM bundle_blob WHERE bundle = ?"
        rows = database.execute(find, key).fetchall()
        database.execute("DELETE FROM bundle_blob WHERE bundle = ?", key)

    def put_back() -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as database, database:
            insert = "INSERT INTO bundle_blob (bundle, blob, size_bytes) VALUES (?, ?, ?)"
            database.executemany(insert, rows)

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
