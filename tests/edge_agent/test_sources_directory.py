import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import MonkeyPatch, TempPathFactory  # noqa: PT013 - as types

from edge_agent.worker import sources
from edge_agent.worker.sources import Item, SourceError, Surroundings, directory, shelf
from runtime.bundle.index import Signature, TensorSpec
from tests.support import workers

SIGNATURE = Signature(inputs=(TensorSpec("x", "FP32", (-1, 2)),), outputs=())


class Device:
    """A directory, and what is recorded of it: in the spool, and durably."""

    def __init__(self, root: Path, uri: str = "directory:") -> None:
        self.root, self.uri = root, uri
        self.inbox = root / "inbox"
        self.inbox.mkdir(parents=True, exist_ok=True)
        self.records: list[Item] = []
        self.troubles: list[str] = []
        self._waiting: list[Callable[[], None]] = []
        self._durable = 0
        self.stopping = threading.Event()

    def open(self) -> sources.Source:
        """Return a new worker's source."""
        self._waiting.clear()
        self.stopping = threading.Event()
        return sources.open_source(
            self.uri,
            Surroundings(
                module="mod",
                signature=SIGNATURE,
                entry=None,
                roots=(self.inbox,),
                stopping=self.stopping,
                tell=self.troubles.append,
                after_sync=self._waiting.append,
            ),
        )

    def read(self, count: int) -> None:
        """Record until there are so many, then stop as a pump does."""
        items = self.open().items(self.position())
        if len(self.records) >= count:
            self.stopping.set()
        for item in items:
            if self.stopping.is_set():
                break
            self.records.append(item)
            if len(self.records) >= count:
                self.stopping.set()
        items.close()

    def position(self) -> str | None:
        """Return the position of the last record."""
        return self.records[-1].position if self.records else None

    def sync(self) -> None:
        """Make the records durable."""
        self._durable = len(self.records)
        for function in self._waiting:
            function()
        self._waiting.clear()

    def cut_power(self) -> None:
        """Lose what was not durable."""
        del self.records[self._durable :]

    def names(self, folder: str = "") -> list[str]:
        """Return the files in the inbox or one of its folders."""
        return sorted(path.name for path in (self.inbox / folder).iterdir() if path.is_file())


@pytest.fixture(autouse=True)
def look_often(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "LOOK_S", 0.005)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def npy(value: float) -> bytes:
    """The bytes of a .npy file that fits the signature."""
    file = io.BytesIO()
    np.save(file, np.array([value, 0], np.float32))
    return file.getvalue()


def put(device: Device, name: str, data: bytes, at: int = 0) -> None:
    """Put a file in, `at` seconds after an hour long ago."""
    workers.put(device.inbox / name, data)
    os.utime(device.inbox / name, (1_000_000 + at, 1_000_000 + at))


def test_files_come_by_time_and_then_by_name(device: Device) -> None:
    for name, at in (("a.npy", 3), ("c.npy", 1), ("b.npy", 1), ("d.npy", 2)):
        put(device, name, npy(0), at)

    device.read(4)

    assert [item.name for item in device.records] == ["b.npy", "c.npy", "d.npy", "a.npy"]


def test_a_file_is_deleted_only_once_its_record_is_durable(device: Device) -> None:
    put(device, "a.npy", npy(0))
    device.read(1)

    assert device.names() == []
    assert device.names(".done") == ["000000000001~a.npy"]
    device.sync()
    assert device.names(".done") == []


def test_moved_files_are_kept_the_newest_of_them(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "KEPT", 10)
    device = Device(tmp_path, "directory:?then=move")
    for n in range(15):
        put(device, f"{n:02d}.npy", npy(n), at=n)
    device.read(15)
    device.sync()

    assert device.names(".done") == [f"{n:02d}.npy" for n in range(5, 15)]
    put(device, "14.npy", npy(99), at=99)
    device.read(16)
    device.sync()
    assert "000000000016-14.npy" in device.names(".done")


def test_rows_of_a_csv_are_items_and_positions(device: Device) -> None:
    put(device, "r.csv", b"a,b\n1,2\n3,4\n5,6\n")
    device.read(2)
    first = device.names()
    device.read(3)

    assert first == ["r.csv"]
    assert [item.name for item in device.records] == ["r.csv:1", "r.csv:2", "r.csv:3"]
    assert device.names() == []


def test_what_cannot_be_read_is_recorded_and_set_aside(device: Device) -> None:
    put(device, "a.npy", b"no array")
    put(device, "b.txt", b"text", at=1)
    put(device, "c.csv", b"a,b\n1,2\n\xff\xff\n", at=2)
    put(device, "d.npy", npy(7), at=3)
    (device.inbox / "e.npy").mkdir()

    device.read(4)

    assert [(item.name, bool(item.error)) for item in device.records] == [
        ("a.npy", True),
        ("b.txt", True),
        ("c.csv", True),
        ("d.npy", False),
    ]
    assert device.names(".bad") == ["a.npy", "b.txt", "c.csv"]


def test_files_still_being_written_are_left(device: Device) -> None:
    for name in (".hidden.npy", "a.npy.tmp", "b.npy.part", "c.npy"):
        put(device, name, npy(0))
    grows = device.inbox / "d.npy"
    items = device.open().items(None)
    stop = threading.Event()

    def grow() -> None:
        while not stop.wait(0.001):
            with grows.open("ab") as file:
                file.write(b"x")

    writer = threading.Thread(target=grow)
    writer.start()
    first = next(items)
    stop.set()
    writer.join()
    items.close()

    assert first.name == "c.npy"
    assert device.names() == [".hidden.npy", "a.npy.tmp", "b.npy.part", "c.npy", "d.npy"]


def test_the_pattern_says_which_files_are_taken(tmp_path: Path) -> None:
    device = Device(tmp_path, "directory:cam?pattern=*_ok.npy")
    (device.inbox / "cam").mkdir()
    put(device, "cam/a.npy", npy(0))
    put(device, "cam/b_ok.npy", npy(0))

    device.read(1)

    assert device.names("cam") == ["a.npy"]


def test_links_are_not_followed_out_of_the_directory(device: Device, tmp_path: Path) -> None:
    secret = tmp_path / "secret.npy"
    secret.write_bytes(npy(0))
    (device.inbox / "a.npy").symlink_to(secret)
    put(device, "b.npy", npy(1))

    device.read(1)

    assert [item.name for item in device.records] == ["b.npy"]
    assert (device.inbox / "a.npy").is_symlink()


def test_a_name_of_any_bytes_is_shown_as_text(device: Device) -> None:
    name = os.fsdecode(b"\xff\xfe~" + b"n" * 240 + b".npy")
    (device.inbox / "x").write_bytes(npy(0))
    (device.inbox / "x").rename(device.inbox / name)

    device.read(1)
    device.sync()

    assert device.records[0].name.startswith("\\xff\\xfe~nnn")
    assert device.names() == device.names(".done") == []


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("directory:?patern=*", "unknown option patern: use pattern, scale, then"),
        ("directory:?then=burn", "use delete or move"),
        ("directory:?scale=big", "scale is no number"),
        ("directory:../..", "is not below"),
        ("directory:/etc", "is not below"),
        ("directory:escape", "is not below"),
        ("folder:inbox", "begin with one of"),
    ],
)
def test_a_uri_that_is_not_allowed_is_refused(device: Device, uri: str, text: str) -> None:
    (device.inbox / "escape").symlink_to("/etc")
    device.uri = uri

    with pytest.raises(SourceError, match=text):
        device.open()


def test_a_relative_path_is_made_below_the_inbox(device: Device) -> None:
    device.uri = "directory:front%20door"
    device.open()

    assert (device.inbox / "front door").is_dir()


def test_a_position_that_is_not_understood_begins_anew(device: Device) -> None:
    put(device, "a.npy", npy(0))
    items = device.open().items("no position of ours")

    assert next(items).name == "a.npy"
    items.close()


def test_another_file_of_the_same_name_is_another_item(device: Device) -> None:
    put(device, "a.npy", npy(1))
    items = device.open().items(None)
    device.records.append(next(items))
    items.close()  # died after the record, before the renaming
    put(device, "a.npy", npy(2), at=50)

    device.read(2)

    assert [item.inputs is not None and item.inputs["x"][0] for item in device.records] == [1, 2]


FILES = st.lists(st.integers(0, 3), min_size=1, max_size=5)
STEPS = st.lists(
    st.sampled_from(["record", "record", "die before record", "die after record", "sync", "cut"]),
    max_size=12,
)


@settings(max_examples=40)
@given(files=FILES, steps=STEPS, move=st.booleans())
def test_each_item_is_recorded_once_whenever_a_worker_dies(
    tmp_path_factory: TempPathFactory, *, files: list[int], steps: list[str], move: bool
) -> None:
    """A 0 is one array, n a CSV of n rows. A power cut takes the records, not the renaming."""
    device = Device(tmp_path_factory.mktemp("d"), f"directory:?then={'move' if move else 'delete'}")
    wanted = []
    for n, rows in enumerate(files):
        name = f"{n}.csv" if rows else f"{n}.npy"
        put(device, name, b"a,b\n" + b"1,2\n" * rows if rows else npy(n), at=n)
        wanted += [f"{name}:{row + 1}" for row in range(rows)] or [name]

    items = device.open().items(None)
    for step in steps:
        if len(device.records) == len(wanted):
            break
        if step == "sync":
            device.sync()
            continue
        if step != "cut":
            item = next(items)
            if step != "die before record":
                device.records.append(item)
        if step != "record":
            items.close()
            if step == "cut":
                device.cut_power()
            items = device.open().items(device.position())
    items.close()
    device.read(len(wanted))
    device.sync()

    assert [item.name for item in device.records] == wanted
    assert device.names() == []
    assert json.loads(msgspec.json.encode(device.position()))
