import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_agent.telemetry.spool import SpoolReader, SpoolWriter
from edge_agent.worker import capture
from edge_agent.worker.capture import Recorder
from edge_agent.worker.protocol import Start
from runtime.batches import Record
from runtime.clock import SystemClock
from runtime.errors import SpaceError
from runtime.messages import Capture
from runtime.serving.served import Origin, Prediction
from tests.support.brokers import eventually

ORIGIN = Origin(source="directory:", item="a.npy", position="p1")


class Rig:
    """A recorder and its spool."""

    def __init__(self, directory: Path, rules: Capture | None = None, **spool: Any) -> None:
        self.directory = directory
        self.told = threading.Semaphore(0)
        start = Start("mod", "ab" * 32, "digits", 3, "", "", (), (), rules or Capture(), (), ())
        self.dropped = 0
        self.recorder = Recorder(SpoolWriter(directory, **spool), start, SystemClock(), self._tell)

    def _tell(self, dropped: int) -> None:
        self.dropped += dropped
        self.told.release()

    def records(self) -> list[Record]:
        """Return what lies in the spool."""
        frames = SpoolReader(self.directory).read({}, 10_000)
        return [msgspec.msgpack.decode(frame.payload, type=Record) for frame in frames]


def prediction(**changes: Any) -> Prediction:
    """Return a prediction with these fields changed."""
    fields: dict[str, Any] = {
        "model": "mod",
        "version": "3",
        "at": 1_800_000_000.0,
        "latency_ms": 1.5,
        "inputs": {"x": np.ones((1, 2), np.float32)},
        "outputs": {"y": np.zeros((1, 2), np.float32)},
        "error": None,
        "request": None,
        "origin": None,
    }
    return Prediction(**(fields | changes))


def test_a_prediction_is_in_the_spool_when_saw_returns(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Capture(inputs=1.0))
    rig.recorder.saw(prediction(origin=ORIGIN, request=None))

    assert rig.records() == [
        Record(
            at=1_800_000_000.0,
            module="mod",
            bundle="ab" * 32,
            model="digits",
            version=3,
            latency_ms=1.5,
            outputs={"y": [[0.0, 0.0]]},
            inputs={"x": [[1.0, 1.0]]},
            source="directory:",
            item="a.npy",
            position="p1",
        )
    ]
    rig.recorder.close()


def test_large_outputs_are_cut_and_long_strings_too(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    outputs = {"y": np.arange(1000.0).reshape(10, 100), "s": np.array(["a" * 1000], dtype=object)}
    rig.recorder.saw(prediction(outputs=outputs))

    assert rig.records()[0].outputs == {"y": [float(n) for n in range(64)], "s": ["a" * 256]}
    rig.recorder.close()


def test_nothing_is_captured_that_was_not_asked_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Capture(outputs=False))
    rig.recorder.saw(prediction())
    rig.recorder.saw(prediction(outputs=None, error="e" * 1000))

    first, second = rig.records()
    assert (first.outputs, first.inputs, first.error) == (None, None, None)
    assert second.error == "e" * 500
    rig.recorder.close()


def test_inputs_are_sampled_by_fraction_and_a_repeated_item_has_the_same_lot(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, Capture(inputs=0.25))
    for turn in range(2):
        for n in range(400):
            origin = Origin("directory:", f"{n}.npy", None)
            rig.recorder.saw(prediction(origin=origin, at=float(turn)))
    captured = [record.item for record in rig.records() if record.inputs is not None]
    rig.recorder.close()

    assert 60 < len(captured) / 2 < 140
    assert captured[: len(captured) // 2] == captured[len(captured) // 2 :]


def test_inputs_that_are_too_large_are_left_out(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Capture(inputs=1.0))
    rig.recorder.saw(prediction(inputs={"x": np.zeros(20_000)}))
    rig.recorder.saw(prediction(inputs={"s": np.array(["t" * 300_000], dtype=object)}))

    assert [(record.inputs, record.outputs) for record in rig.records()] == [
        (None, {"y": [[0.0, 0.0]]})
    ] * 2
    rig.recorder.close()


def test_without_room_a_requests_record_is_dropped_and_a_sources_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path, cap_bytes=1000)
    for _ in range(50):
        rig.recorder.saw(prediction())
    with pytest.raises(SpaceError):
        rig.recorder.saw(prediction(origin=ORIGIN))
    with pytest.raises(SpaceError):
        rig.recorder.failed(ORIGIN, "no array")

    assert 0 < len(rig.records()) < 50
    assert rig.recorder.dropped == 50 - len(rig.records())
    eventually(lambda: rig.dropped == rig.recorder.dropped, "the agent is told how many")
    assert [record.message for record in caplog.records] == ["records are dropped"]
    rig.recorder.close()


def test_the_agent_is_told_now_and_then_and_never_without_news(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for _ in range(200):
        rig.recorder.saw(prediction())
    assert rig.told.acquire(timeout=10)
    rig.recorder.close()

    count = 1
    while rig.told.acquire(blocking=False):
        count += 1
    assert count <= 2


def test_what_waits_for_durability_is_called_within_a_second_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "SYNC_S", 0.05)
    monkeypatch.setattr(capture, "TELL_S", 0.01)
    rig = Rig(tmp_path)
    called = threading.Event()
    rig.recorder.saw(prediction(origin=ORIGIN))
    rig.recorder.after_sync(called.set)

    assert not called.is_set() or rig.records()
    eventually(called.is_set, "called after the sync")
    rig.recorder.close()


def test_records_that_nobody_waits_for_cost_no_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent's outbox makes them durable; a sync for each would wear out the flash."""
    monkeypatch.setattr(capture, "SYNC_S", 0.0)
    monkeypatch.setattr(capture, "TELL_S", 0.001)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    rig = Rig(tmp_path)
    for _ in range(5):
        rig.recorder.saw(prediction())
        assert rig.told.acquire(timeout=10)

    assert synced == []
    rig.recorder.close()
    assert synced != []


def test_closing_makes_everything_durable(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    called = threading.Event()
    rig.recorder.failed(ORIGIN, "no array")
    rig.recorder.after_sync(called.set)

    rig.recorder.close()

    assert called.is_set()
    assert rig.records()[0].error == "no array"
