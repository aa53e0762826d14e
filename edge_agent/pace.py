"""How fast the device moves bytes: one bucket down, one up, for everything that may wait.

    download_kbps ──► Pace ──► parts over HTTPS and over MQTT, of all bundles together
    upload_kbps ────► Pace ──► telemetry

What keeps the device steerable never passes here: desired state, reports, presence, commands and
acknowledgements. Of each cap CONTROL_SHARE stays free for them, so they find room on a link that is
exactly as wide as the cap.
"""

import threading
import time
from collections.abc import Callable

from runtime import bytebucket

BYTES_PER_KILOBIT = 125
CONTROL_SHARE = 0.1
BURST_S = 0.25
"""What may go at once after a pause, in seconds of the rate."""


class Pace:
    """One bucket that many threads share."""

    def __init__(self, bytes_per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Let so many bytes a second through; `clock` never jumps back."""
        self._clock, self._lock = clock, threading.Lock()
        self._bucket = bytebucket.full(bytes_per_s, bytes_per_s * BURST_S, clock())
        self.most = max(1, int(self._bucket.burst))
        """As much as should be taken at once."""

    def take(self, count: int) -> float:
        """Take bytes; return how many seconds to wait before they may move."""
        with self._lock:
            self._bucket, wait_s = bytebucket.take(self._bucket, count, self._clock())
        return wait_s

    def give_back(self, count: int) -> None:
        """Say that bytes which were taken did not move."""
        with self._lock:
            self._bucket = bytebucket.give_back(self._bucket, count)


def of_kbps(kbps: int, *, clock: Callable[[], float] = time.monotonic) -> Pace | None:
    """Return the pace below a cap in kilobits a second; None: there is no cap."""
    if not kbps:
        return None
    return Pace(kbps * BYTES_PER_KILOBIT * (1 - CONTROL_SHARE), clock=clock)
