"""Tells the registry how the device is: at once when a phase changes, now and then otherwise.

A thread of its own, since publishing waits for the broker. It composes each report when it is about
to be sent, so what was overtaken while the link was slow is never sent.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

from runtime.errors import PackhorseError

log = logging.getLogger(__name__)

GENTLE_S = 0.25
"""Changes that are no change of phase (progress) are told at most this often."""
AGAIN_S = 5.0
JITTER = 0.2


class Reporter:
    """Calls `send` when it is time; `send` raises LinkError (or another PackhorseError)."""

    def __init__(self, send: Callable[[bool], None], *, heartbeat_s: float) -> None:
        """`send(True)` is the first of a connection; `heartbeat_s` is jittered by a fifth."""
        self._send, self._heartbeat_s = send, heartbeat_s
        self._news = threading.Condition()
        self._connected = self._fresh = self._stopping = False
        self._due_at = 0.0
        self._random = random.Random()  # noqa: S311 - spreads load, guards nothing
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin; nothing is sent before `connected`."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End."""
        with self._news:
            self._stopping = True
            self._news.notify()
        self._thread.join(timeout_s)

    def connected(self) -> None:
        """Send at once: the registry may have missed anything."""
        with self._news:
            self._connected = self._fresh = True
            self._due_at = 0.0
            self._news.notify()

    def disconnected(self) -> None:
        """Send nothing until the next connection."""
        with self._news:
            self._connected = False

    def changed(self, *, urgent: bool) -> None:
        """Send soon, or at once."""
        with self._news:
            soon = 0.0 if urgent else time.monotonic() + GENTLE_S
            if soon < self._due_at:
                self._due_at = soon
                self._news.notify()

    def _run(self) -> None:
        while self._wait():
            with self._news:
                fresh, self._fresh = self._fresh, False
                spread = self._random.uniform(1 - JITTER, 1 + JITTER)
                self._due_at = time.monotonic() + self._heartbeat_s * spread
            try:
                self._send(fresh)
            except PackhorseError as error:
                log.info("report not sent", extra={"reason": str(error)})
                self._again(fresh=fresh)
            except Exception:  # the outermost loop: the thread outlives what it reports
                log.exception("report failed")
                self._again(fresh=fresh)

    def _again(self, *, fresh: bool) -> None:
        with self._news:
            self._fresh = self._fresh or fresh
            self._due_at = min(self._due_at, time.monotonic() + AGAIN_S)

    def _wait(self) -> bool:
        """Wait until it is time; return False when it is time to end."""
        with self._news:
            while not self._stopping:
                wait_s = self._due_at - time.monotonic()
                if self._connected and wait_s <= 0:
                    return True
                self._news.wait(wait_s if self._connected else None)
        return False
