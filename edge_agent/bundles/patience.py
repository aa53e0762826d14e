"""How long to go on trying, and when to stop because nobody wants it any more."""

import logging
import threading
import time
from collections.abc import Callable

from edge_agent.bundles.ranges import ExpiredError
from edge_agent.mind.terms import Wait
from runtime.errors import LinkError, PackhorseError
from runtime.retry import Backoff

log = logging.getLogger(__name__)

MOST_FAILURES = 8
"""Failures in a row, without one new byte between them."""
POLL_S = 0.2


class FetchCancelledError(PackhorseError):
    """The caller does not want the bundle any more."""


class NotNowError(PackhorseError):
    """The deployment's terms do not let bytes come now; `wait_s` says when to look again."""

    retryable = True

    def __init__(self, wait: Wait) -> None:
        super().__init__(wait.reason)
        self.wait_s = wait.wait_s


class Patience:
    """Decides how long to go on trying; any new byte makes it fresh again."""

    def __init__(
        self,
        backoff: Backoff,
        cancelled: Callable[[], bool],
        hindrance: Callable[[], Wait | None] = lambda: None,
    ) -> None:
        """Wait as `backoff` says, but not for one who has cancelled.

        `hindrance` says what is in the way of downloading anything now.
        """
        self._backoff, self._cancelled, self._hindrance = backoff, cancelled, hindrance
        self._failures, self._renewed = 0, False

    def stop_if_cancelled(self) -> None:
        """Raise FetchCancelledError if the caller has cancelled."""
        if self._cancelled():
            raise FetchCancelledError("the download was cancelled")

    def require_leave(self) -> None:
        """Raise as `stop_if_cancelled` does, or NotNowError if no byte may come now."""
        self.stop_if_cancelled()
        if (wait := self._hindrance()) is not None:
            raise NotNowError(wait)

    def pause(self, seconds: float) -> None:
        """Wait; raise FetchCancelledError if the caller cancels."""
        until, never = time.monotonic() + seconds, threading.Event()
        while (left := until - time.monotonic()) > 0:
            self.stop_if_cancelled()
            never.wait(min(left, POLL_S))

    def failed(self, error: LinkError) -> None:
        """Wait before the next try, or raise the error if it was the last."""
        self._failures += 1
        if self._failures == 1:
            log.warning("download interrupted", extra={"reason": str(error)})
        if self._failures >= MOST_FAILURES:
            raise error
        self.pause(self._backoff.next())

    def expired(self, error: ExpiredError) -> None:
        """Go on at once with a new offer, but not with one new offer after the other."""
        if self._renewed:
            self.failed(error)
        self._renewed = True

    def progressed(self) -> None:
        """Begin anew: bytes came."""
        if self._failures:
            log.info("download goes on", extra={"failures": self._failures})
            self._backoff.reset()
        self._failures, self._renewed = 0, False
