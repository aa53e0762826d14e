"""Threads that hear what changes at targets, one for each place."""

import logging
import threading
from collections.abc import Callable, Iterable

from cloud.hosting.errors import TargetError
from cloud.hosting.opening import Targets
from cloud.hosting.targets import Place
from runtime.retry import Backoff

log = logging.getLogger(__name__)

FIRST_PAUSE_S, MOST_PAUSE_S = 1.0, 60.0


class Watchers:
    """Hears of changes; what is missed while a link is broken is found by looking."""

    def __init__(self, targets: Targets, tell: Callable[[str], None]) -> None:
        """`tell` is called with the name of a service that changed."""
        self._targets, self._tell = targets, tell
        self._watched: set[Place] = set()
        self._stopping = threading.Event()

    def watch(self, places: Iterable[Place]) -> None:
        """Begin to watch places that are not watched yet."""
        for place in set(places) - self._watched:
            self._watched.add(place)
            # A daemon: it waits for what may never come.
            name = f"watch-{place.kind}"
            threading.Thread(target=self._run, args=(place,), name=name, daemon=True).start()

    def stop(self) -> None:
        """Begin no new links; those that wait end with the process, or when targets are closed."""
        self._stopping.set()

    def _run(self, place: Place) -> None:
        backoff = Backoff(FIRST_PAUSE_S, MOST_PAUSE_S)
        while not self._stopping.is_set():
            try:
                for service in self._targets.of(place).changes():
                    if self._stopping.is_set():
                        return
                    backoff.reset()
                    self._tell(service)
            except TargetError as error:
                log.info("changes broke off", extra={"kind": place.kind, "why": str(error)})
            except Exception:
                log.exception("changes broke off", extra={"kind": place.kind})
            self._stopping.wait(backoff.next())
