"""The entry script of the demo's wrist-motion bundle: it reads a sensor and makes features.

It is copied into the bundle and runs on the device, so it needs nothing but numpy. The "sensor" is
a file of recordings that stands in for the accelerometer and gyroscope of a watch; WRIST_SENSOR
names it, as a real script would name an I2C device.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WINDOW = 50
"""Readings in a window: five seconds."""
STEP = 25
"""Readings from one window to the next."""


def windows(readings: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield windows [time, axis] of a recording [time, axis]."""
    for start in range(0, len(readings) - WINDOW + 1, STEP):
        yield readings[start : start + WINDOW]


def features(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return five figures for each axis: mean, deviation, least, most, mean change."""
    change = np.abs(np.diff(window, axis=0)).mean(axis=0)
    figures = [window.mean(axis=0), window.std(axis=0), window.min(axis=0), window.max(axis=0)]
    return np.concatenate([*figures, change]).astype(np.float32)


def source(position: str | None = None) -> Iterator[tuple[dict[str, NDArray[np.float32]], str]]:
    """Yield features of each window of the stream, named by its count.

    `position` says how many were done before; the agent keeps it with the records.
    """
    with np.load(Path(os.environ["WRIST_SENSOR"])) as stream:
        recordings = stream["readings"]
    done = int(position or 0)
    found = (window for readings in recordings for window in windows(readings))
    for number, window in enumerate(found):
        if number >= done:
            yield {"features": features(window)[np.newaxis]}, str(number)
