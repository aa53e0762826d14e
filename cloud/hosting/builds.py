"""Images made in the background, so that a slow build holds up no other service.

What is under way, and what failed, is in memory alone: after a restart it is asked for again, and
found where it was made. What was made is in the database, with the revision that needed it.
"""

import logging
import queue
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from cloud.hosting.targets import Place
from cloud.images.image import Image
from cloud.images.maker import ImageMaker, Wanted
from runtime.clock import Clock
from runtime.errors import PackhorseError
from runtime.retry import Backoff

log = logging.getLogger(__name__)

BUILDERS = 2
FIRST_PAUSE_S, MOST_PAUSE_S = 2.0, 120.0


@dataclass
class _Job:
    """One image that is wanted."""

    make: Callable[[], Image]
    waiting: bool = True
    """It is queued or being made."""
    image: Image | None = None
    broken: str = ""
    """Why it will never be."""
    trouble: str = ""
    """Why it was not yet."""
    doing: str = ""
    again_at: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(FIRST_PAUSE_S, MOST_PAUSE_S))


@dataclass(frozen=True)
class Build:
    """How far an image is."""

    image: Image | None = None
    broken: str = ""
    """Why it cannot be made; "": it can, as far as is known."""
    doing: str = ""
    """What is being done, or waited for."""


class Builds:
    """Makes images, one at a time in each of a few threads."""

    def __init__(self, maker: ImageMaker, clock: Clock, wake: Callable[[], None]) -> None:
        """`wake` is called whenever a build has ended."""
        self._maker, self._clock, self._wake = maker, clock, wake
        self._lock = threading.Lock()
        self._jobs: dict[Hashable, _Job] = {}
        self._queue: queue.Queue[Hashable] = queue.Queue()

    def start(self) -> None:
        """Start the threads. Daemons: a build under way does not hold up the end of the process."""
        for number in range(BUILDERS):
            threading.Thread(target=self._work, name=f"build-{number}", daemon=True).start()

    def bundle(self, wanted: Wanted) -> Build:
        """Return how far the image of a bundle is; ask for it if nobody did."""
        return self._ask(wanted, lambda: self._maker.bundle(wanted, self._teller(wanted)))

    def gateway(self, place: Place) -> Build:
        """Return how far the gateway's image is; ask for it if nobody did."""
        return self._ask(place, lambda: self._maker.gateway(place, self._teller(place)))

    def forget(self, key: Wanted | Place) -> None:
        """Make an image anew when it is asked for again: it is gone where it was."""
        with self._lock:
            job = self._jobs.get(key)
            if job is not None and not job.waiting:
                del self._jobs[key]

    def run_all(self) -> int:
        """Make in this thread what is asked for; return how many images that were."""
        count = 0
        while not self._queue.empty():
            self._make(self._queue.get())
            count += 1
        return count

    def _ask(self, key: Hashable, make: Callable[[], Image]) -> Build:
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                job = self._jobs[key] = _Job(make)
                self._queue.put(key)
            elif job.trouble and not job.waiting and self._clock.monotonic() >= job.again_at:
                job.waiting = True
                self._queue.put(key)
            return Build(job.image, job.broken, job.trouble or job.doing)

    def _teller(self, key: Hashable) -> Callable[[str], None]:
        def tell(text: str) -> None:
            with self._lock:
                if key in self._jobs:
                    self._jobs[key].doing = text

        return tell

    def _work(self) -> None:
        while True:
            self._make(self._queue.get())

    def _make(self, key: Hashable) -> None:
        with self._lock:
            job = self._jobs.get(key)
        if job is None:
            return
        try:
            image = job.make()
        except PackhorseError as error:
            self._failed(job, str(error), again=error.retryable)
        except Exception as error:
            log.exception("an image cannot be made")
            self._failed(job, f"image: a bug: {type(error).__name__}", again=True)
        else:
            with self._lock:
                job.image, job.trouble, job.waiting = image, "", False
        self._wake()

    def _failed(self, job: _Job, why: str, *, again: bool) -> None:
        with self._lock:
            job.waiting = False
            if again:
                job.trouble = why
                job.again_at = self._clock.monotonic() + job.backoff.next()
            else:
                job.broken, job.trouble = why, ""
        log.warning("image not made", extra={"why": why, "again": again})
