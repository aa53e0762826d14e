from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.demo import data, wrist
from runtime.errors import InvalidError


def test_no_digit_is_both_trained_on_and_held_out() -> None:
    digits = data.digits()

    assert len(digits.train_labels) + len(digits.held_out_labels) == 1797
    assert len(digits.held_out_labels) == data.HELD_OUT
    assert set(digits.held_out_labels.tolist()) == set(range(10))


def test_the_recordings_are_whole_and_of_four_activities() -> None:
    recordings = data.motions("TEST")

    assert recordings.readings.shape == (40, 100, 6)
    assert set(recordings.labels) == set(data.MOTIONS)


@pytest.mark.parametrize(
    "body",
    ["", "@data\n", "@data\nnonsense\n", "@data\n'1,2\\n3,4',Walking\n", "@data\n'a,b',Walking\n"],
)
def test_a_damaged_recording_file_is_refused_by_name(body: str, tmp_path: Path) -> None:
    path = tmp_path / "BasicMotions_TEST.arff"
    path.write_text(body)

    with pytest.raises(InvalidError, match="BasicMotions_TEST"):
        data.parse_motions(path)


def test_a_recording_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.arff"
    with path.open("wb") as file:
        file.truncate(data.MAX_FILE_BYTES + 1)

    with pytest.raises(InvalidError, match="at most"):
        data.parse_motions(path)


def test_the_sensor_goes_on_behind_its_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = np.random.default_rng(0).normal(size=(2, 100, 6)).astype(np.float32)
    np.savez(tmp_path / "stream.npz", readings=readings)
    monkeypatch.setenv("WRIST_SENSOR", str(tmp_path / "stream.npz"))

    whole = list(wrist.source())
    rest = list(wrist.source("3"))

    assert [item for _, item in whole] == ["0", "1", "2", "3", "4", "5"]
    assert [item for _, item in rest] == ["3", "4", "5"]
    assert np.array_equal(whole[3][0]["features"], rest[0][0]["features"])


@settings(max_examples=20)
@given(st.integers(0, 200))
def test_windows_are_whole_and_evenly_spaced(length: int) -> None:
    readings = np.arange(length * 6, dtype=np.float32).reshape(length, 6)

    found = list(wrist.windows(readings))

    assert all(window.shape == (wrist.WINDOW, 6) for window in found)
    assert [window[0, 0] // 6 for window in found] == list(
        range(0, length - wrist.WINDOW + 1, wrist.STEP)
    )
