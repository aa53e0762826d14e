"""A server's records, in files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import batches
from runtime.batches import Record
from runtime.messages import Capture
from runtime.serving import capturefiles
from runtime.serving.capturefiles import CaptureFiles
from runtime.serving.served import Prediction
from tests.support.brokers import eventually


def prediction(**changes: Any) -> Prediction:
    fields: dict[str, Any] = {
        "model": "sums",
        "version": "3",
        "at": 1_800_000_000.0,
        "latency_ms": 1.5,
        "inputs": {"x": np.ones((1, 2), np.float32)},
        "outputs": {"y": np.zeros((1, 2), np.float32)},
        "error": None,
        "request": "r-1",
        "origin": None,
        "bundle": "ab" * 32,
    }
    return Prediction(**(fields | changes))


def records(directory: Path) -> list[Record]:
    """Return what lies in whole files, in order, each batch numbered by one more."""
    found: list[Record] = []
    numbers: list[int] = []
    for path in sorted(directory.glob(f"*{capturefiles.WHOLE}")):
        for payload in capturefiles.read(path):
            batch = batches.decode_batch(payload)
            numbers.append(batch.sequence)
            found.extend(batch.records)
    assert numbers == list(range(1, len(numbers) + 1))
    return found


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[CaptureFiles]:
    kept = CaptureFiles(tmp_path, Capture(inputs=1.0), device="web-1")
    yield kept
    kept.close()


def test_a_prediction_lies_in_a_file_once_its_writer_has_ended(
    kept: CaptureFiles, tmp_path: Path
) -> None:
    kept.saw(prediction())
    kept.saw(prediction(outputs=None, error="torn"))
    kept.close()

    assert records(tmp_path) == [
        Record(
            at=1_800_000_000.0, module="sums", bundle="ab" * 32, model="sums", version=3,
            latency_ms=1.5, outputs=outputs, inputs={"x": [[1.0, 1.0]]}, request="r-1", error=error,
        )
        for outputs, error in (({"y": [[0.0, 0.0]]}, None), (None, "torn"))
    ]  # fmt: skip
    assert (kept.written, kept.dropped) == (2, 0)


def test_files_become_whole_when_they_are_large_enough(tmp_path: Path) -> None:
    kept = CaptureFiles(tmp_path, Capture(inputs=1.0), file_bytes=1)
    for count in range(1, 4):
        kept.saw(prediction())
        eventually(lambda n=count: len(records(tmp_path)) == n, "a file more")  # type: ignore[misc] # bound
    kept.close()

    assert len(list(tmp_path.iterdir())) == 3


def test_what_finds_no_room_is_counted(tmp_path: Path) -> None:
    kept = CaptureFiles(tmp_path, Capture(inputs=1.0), cap_bytes=1000, file_bytes=1)
    rng = np.random.default_rng(0)
    for number in range(300):
        kept.saw(prediction(inputs={"x": rng.standard_normal((1, 200))}, request=str(number)))
    kept.close()

    assert kept.dropped > 0
    assert len(records(tmp_path)) + kept.dropped == 300
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000


def test_more_than_can_wait_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capturefiles, "WAITING_RECORDS", 5)
    monkeypatch.setattr(capturefiles, "WRITE_S", 60.0)
    kept = CaptureFiles(tmp_path, Capture())
    for _ in range(8):
        kept.saw(prediction())
    kept.close()

    assert (len(records(tmp_path)), kept.dropped) == (5, 3)


def test_records_too_large_for_one_batch_go_in_several(tmp_path: Path) -> None:
    kept = CaptureFiles(tmp_path, Capture(inputs=1.0))
    rng = np.random.default_rng(0)
    for _ in range(12):
        kept.saw(prediction(inputs={"x": rng.standard_normal((1, 16_384))}))
    kept.close()

    assert len(records(tmp_path)) == 12


def test_what_a_dead_writer_left_is_made_whole_up_to_its_last_batch(tmp_path: Path) -> None:
    first = CaptureFiles(tmp_path / "first", Capture())
    first.saw(prediction())
    first.close()
    [whole] = (tmp_path / "first").iterdir()
    content = whole.read_bytes()
    left = tmp_path / "second" / "left-00000001.open"
    left.parent.mkdir()
    left.write_bytes(content + content[: len(content) // 2])
    (left.parent / "empty-00000001.open").touch()

    CaptureFiles(left.parent, Capture()).close()

    assert [path.read_bytes() for path in left.parent.iterdir()] == [content]


def test_what_another_writer_writes_is_left_to_it(kept: CaptureFiles, tmp_path: Path) -> None:
    kept.saw(prediction())
    eventually(lambda: bool(list(tmp_path.glob("*.open"))), "a file")

    CaptureFiles(tmp_path, Capture()).close()

    assert [path.suffix for path in tmp_path.iterdir()] == [".open"]


def test_files_are_for_their_owner_alone(kept: CaptureFiles, tmp_path: Path) -> None:
    kept.saw(prediction())
    kept.close()

    assert [oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == ["0o600"]
