"""Python imports this at start where this directory is on its path: see tests.support.clocks.

libfaketime 0.9.10 takes the absolute monotonic times that `time.sleep` gives to the system for
wall-clock times: in the past it would sleep for ever, in the future it fails.
"""

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex) -> None:
    select.select([], [], [], float(seconds))


time.sleep = _sleep
