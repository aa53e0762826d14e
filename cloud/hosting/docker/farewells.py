"""Sees containers off in the background: each waits until nothing asks it any more, then ends.

Nothing of it is remembered: who is still there after a restart of the registry is planned anew.
"""

import logging
import threading
from collections.abc import Callable

from runtime.containers.errors import EngineError

log = logging.getLogger(__name__)

LOOK_S = 0.25
PATIENCE_S = 60.0
"""For the gateways to follow a configuration; then it is left to the next plan."""


class Farewells:
    """What is on its way out. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, str] = {}
        self._stopping = threading.Event()

    def leaving(self, service: str) -> frozenset[str]:
        """Return what of a service is on its way out."""
        with self._lock:
            return frozenset(key for key, of in self._under_way.items() if of == service)

    def begin(
        self, service: str, key: str, ready: Callable[[], bool], end: Callable[[], None]
    ) -> None:
        """See one off, unless that is under way: wait until `ready`, then `end` it."""
        with self._lock:
            if key in self._under_way or self._stopping.is_set():
                return
            self._under_way[key] = service
        # A daemon: what it waits for may outlast the process, and is planned anew then.
        threading.Thread(
            target=self._see_off, args=(service, key, ready, end), name="farewell", daemon=True
        ).start()

    def close(self) -> None:
        """Begin and wait no more."""
        self._stopping.set()

    def _see_off(
        self, service: str, key: str, ready: Callable[[], bool], end: Callable[[], None]
    ) -> None:
        facts = {"service": service, "container": key[:12]}
        try:
            for _ in range(round(PATIENCE_S / LOOK_S)):
                if ready():
                    end()
                    log.info("container left", extra=facts)
                    return
                if self._stopping.wait(LOOK_S):
                    return
            log.warning("gateways do not follow: nothing was taken away", extra=facts)
        except EngineError as error:
            log.warning("container not taken away", extra={**facts, "why": str(error)})
        finally:
            with self._lock:
                self._under_way.pop(key, None)
