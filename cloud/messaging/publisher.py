"""Desired state out to the devices: retained, so that whoever comes later finds it.

The database is the truth, the broker holds a copy. A row whose published generation is behind is
published until the broker has it; at each new connection all rows are, since a broker may have
lost its store; and a device whose report lags gets its row again.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy.exc import OperationalError

from cloud.registry import desired
from cloud.services import Services
from runtime.errors import LinkError, PartlyPublishedError
from runtime.retry import Backoff
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

LOOK_S = 30.0
"""A change that nobody told of is found after this long."""
AGAIN_S = 1.0
"""A device gets the same generation again at most this often."""
_MARKED_TOGETHER = 4096


class _Row(NamedTuple):
    device: DeviceId
    generation: int
    body: bytes


class Publisher:
    """Publishes desired rows, in a thread of its own; any thread may tell it of work."""

    def __init__(
        self, services: Services, publish: Callable[[Sequence[tuple[DeviceId, bytes]]], None]
    ) -> None:
        """`publish` returns once the broker has all of these, retained.

        Or it raises PartlyPublishedError.
        """
        self._services, self._publish = services, publish
        self._work = threading.Condition()
        self._woken = True
        self._everything = True
        self._lagging: set[DeviceId] = set()
        self._sent_at: dict[DeviceId, float] = {}

    def wake(self) -> None:
        """Tell that some row has a new generation."""
        with self._work:
            self._woken = True
            self._work.notify()

    def everything(self) -> None:
        """Tell that the broker may have lost all rows."""
        with self._work:
            self._everything = self._woken = True
            self._work.notify()

    def again(self, device: DeviceId) -> None:
        """Tell that a device has not seen its newest row; not more than once in AGAIN_S each."""
        with self._work:
            if time.monotonic() - self._sent_at.get(device, 0.0) < AGAIN_S:
                return
            self._lagging.add(device)
            self._woken = True
            self._work.notify()

    def run(self, stopping: threading.Event) -> None:
        """Publish until `stopping`, then return after at most one message."""
        backoff = Backoff(first_s=0.2, most_s=5.0)
        while not stopping.is_set():
            if self._wait() and not self._try(stopping):
                stopping.wait(backoff.next())
            else:
                backoff.reset()

    def stop(self) -> None:
        """Let `run` see that it shall stop."""
        self.wake()

    def _wait(self) -> bool:
        with self._work:
            self._work.wait_for(lambda: self._woken, LOOK_S)
            self._woken = False
        return True

    def _try(self, stopping: threading.Event) -> bool:
        """Publish what there is to publish; say whether all of it is done."""
        with self._work:
            everything, self._everything = self._everything, False
            lagging, self._lagging = self._lagging, set()
        try:
            self.publish(everything=everything, lagging=lagging, stopping=stopping)
        except (LinkError, OperationalError) as error:
            log.info("desired state not published yet", extra={"why": str(error)})
            with self._work:
                self._everything |= everything
                self._lagging |= lagging
                self._woken = True
            return False
        return True

    def publish(
        self, *, everything: bool, lagging: set[DeviceId], stopping: threading.Event
    ) -> None:
        """Publish every row that is behind, those of `lagging` devices, or all.

        Raises LinkError, or sqlalchemy.exc.OperationalError; what the broker took stays marked.
        """
        rows = self._rows(everything=everything, lagging=lagging)
        for start in range(0, len(rows), _MARKED_TOGETHER):
            if stopping.is_set():
                return
            self._publish_some(rows[start : start + _MARKED_TOGETHER])

    def _publish_some(self, rows: Sequence[_Row]) -> None:
        try:
            self._publish([(row.device, row.body) for row in rows])
        except PartlyPublishedError as error:
            self._mark(rows[: error.taken])
            raise
        self._mark(rows)

    def _mark(self, rows: Sequence[_Row]) -> None:
        now = time.monotonic()
        with self._work:
            self._sent_at.update({row.device: now for row in rows})
        if rows:
            with self._services.transaction() as session:
                desired.mark_published(session, {row.device: row.generation for row in rows})

    def _rows(self, *, everything: bool, lagging: set[DeviceId]) -> list[_Row]:
        with self._services.reading() as session:
            found = desired.to_publish(session, everything=everything, also=lagging)
        return [_Row(device, generation, body.encode()) for device, generation, body in found]
