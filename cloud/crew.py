"""The threads of `packhorse serve`: all of them work, or the process ends.

A thread that dies takes a duty with it (telemetry is no longer stored, desired states are no
longer published) while everything else looks healthy. So the first unexpected end of any thread
is kept, and `wait` returns it to the main thread, which ends the process non-zero.
"""

import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Crew:
    """Named threads that live as long as the process."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        """Set by `stop`: every duty returns soon after."""
        self._threads: list[threading.Thread] = []
        self._ended: set[str] = set()
        self._culprit: str | None = None
        # A pipe, since a signal handler must not take the lock of an Event that its own thread
        # may hold at that very moment.
        self._bell_out, self._bell_in = os.pipe()

    def start(self, name: str, duty: Callable[[], object]) -> None:
        """Run `duty` in a thread; it returns only after `stopping` is set."""
        thread = threading.Thread(target=self._run, args=(name, duty), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> str | None:
        """Return when `ring` was called (None) or a duty ended by itself (its name)."""
        os.read(self._bell_out, 1)
        return self._culprit

    def ring(self) -> None:
        """Wake `wait`; safe in a signal handler."""
        os.write(self._bell_in, b"!")

    def stop(self, timeout_s: float) -> list[str]:
        """Tell every duty to end and wait; return the names of those that still run."""
        self.stopping.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]

    def alive(self) -> dict[str, bool]:
        """Return which duties are still done, by name."""
        return {thread.name: thread.name not in self._ended for thread in self._threads}

    def _run(self, name: str, duty: Callable[[], object]) -> None:
        try:
            duty()
        except (Exception, SystemExit):  # the latter ends a thread without a word
            log.exception("thread failed", extra={"thread_name": name})
        self._ended.add(name)
        if not self.stopping.is_set():
            log.critical("thread ended unexpectedly", extra={"thread_name": name})
            self._culprit = self._culprit or name
            self.ring()
