"""Tells the registry how the device is: at once when a phase changes, now and then otherwise.

`Pace` decides when, from the time it is given. The reporter is a thread of its own, since
publishing waits for the broker. It composes each report when it is about to be sent, so what was
overtaken while the link was slow is never sent.
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


class Pace:
    """When the next report is due; times are of a clock that never jumps back."""

    def __init__(self, heartbeat_s: float, rng: random.Random) -> None:
        """`heartbeat_s` is the usual time between two reports, jittered by a fifth."""
        self._heartbeat_s, self._random = heartbeat_s, rng
        self._connected = self._fresh = self._prompted = False
        self._due_at = 0.0

    def connected(self) -> None:
        """Report at once: the registry may have missed anything."""
        self._connected = self._fresh = True
        self._due_at = 0.0

    def disconnected(self) -> None:
        """Report nothing until the next connection."""
        self._connected = False

    def changed(self, now: float, *, urgent: bool) -> bool:
        """Report soon, or at once; return whether that is earlier than before."""
        soon = 0.0 if urgent else now + GENTLE_S
        if soon >= self._due_at:
            return False
        self._due_at, self._prompted = soon, True
        return True

    def wait_s(self, now: float) -> float | None:
        """Return how long nothing is due; None: until something happens."""
        return max(0.0, self._due_at - now) if self._connected else None

    def take(self, now: float) -> bool:
        """Begin the report that is due; return whether to say presence with it.

        That is the first of a connection, and every heartbeat: a broker may have lost the first.
        """
        presence = self._fresh or not self._prompted
        self._fresh = self._prompted = False
        spread = self._random.uniform(1 - JITTER, 1 + JITTER)
        self._due_at = now + self._heartbeat_s * spread
        return presence

    def failed(self, now: float, *, presence: bool) -> None:
        """Try again soon what `take` began."""
        self._fresh = self._fresh or presence
        self._due_at = min(self._due_at, now + AGAIN_S)


class Reporter:
    """Calls `send` when it is time; `send` raises LinkError (or another PackhorseError)."""

    def __init__(self, send: Callable[[bool], None], *, heartbeat_s: float) -> None:
        """`send(True)` says presence too."""
        self._send = send
        self._pace = Pace(heartbeat_s, random.Random())  # noqa: S311 - spreads load
        self._news = threading.Condition()
        self._stopping = False
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
            self._pace.connected()
            self._news.notify()

    def disconnected(self) -> None:
        """Send nothing until the next connection."""
        with self._news:
            self._pace.disconnected()

    def changed(self, *, urgent: bool) -> None:
        """Send soon, or at once."""
        with self._news:
            if self._pace.changed(time.monotonic(), urgent=urgent):
                self._news.notify()

    def _run(self) -> None:
        while self._wait():
            with self._news:
                presence = self._pace.take(time.monotonic())
            try:
                self._send(presence)
            except PackhorseError as error:
                log.info("report not sent", extra={"reason": str(error)})
                self._again(presence=presence)
            except Exception:  # the outermost loop: the thread outlives what it reports
                log.exception("report failed")
                self._again(presence=presence)

    def _again(self, *, presence: bool) -> None:
        with self._news:
            self._pace.failed(time.monotonic(), presence=presence)

    def _wait(self) -> bool:
        """Wait until it is time; return False when it is time to end."""
        with self._news:
            while not self._stopping:
                wait_s = self._pace.wait_s(time.monotonic())
                if wait_s == 0.0:
                    return True
                self._news.wait(wait_s)
        return False
