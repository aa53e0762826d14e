"""What was handed to a connection at QoS 1, until the broker has it."""

import contextlib
import threading
import time
from collections import deque
from typing import Protocol

from runtime.errors import LinkError

LOOK_S = 0.5
STEP = 32
"""Whoever waits for many is woken once for so many."""


class Sent(Protocol):
    """A message under way, as paho knows it: both raise RuntimeError or ValueError if it is not."""

    def is_published(self) -> bool:
        """Say whether the broker has it."""
        ...

    def wait_for_publish(self, timeout: float | None = None) -> None:
        """Return when the broker has it, and also when the time is up or the connection is lost."""
        ...


def wait_for(sent: Sent, ended: threading.Event, timeout_s: float) -> None:
    """Return once the broker has a message; raise LinkError if it may not.

    `ended` is set when the connection is lost.
    """
    deadline = time.monotonic() + timeout_s
    try:
        while not sent.is_published():
            left_s = deadline - time.monotonic()
            if ended.is_set():
                raise LinkError("the connection was lost while publishing")
            if left_s <= 0:
                raise LinkError(f"not acknowledged within {timeout_s:g} s")
            sent.wait_for_publish(min(left_s, LOOK_S))
    except (RuntimeError, ValueError) as error:
        raise LinkError(f"not published: {error}") from error


def wait_for_some(
    sent: deque[Sent], ended: threading.Event, timeout_s: float, *, but: int = 0
) -> None:
    """Wait for all but the last so many, and drop them; raise LinkError as `wait_for`."""
    while (some := min(STEP, len(sent) - but)) > 0:
        wait_for(sent[some - 1], ended, timeout_s)
        for _ in range(some):
            wait_for(sent[0], ended, timeout_s)
            sent.popleft()


def drop_taken(sent: deque[Sent]) -> None:
    """Drop the first ones that the broker has."""
    while sent and _is_taken(sent[0]):
        sent.popleft()


def _is_taken(sent: Sent) -> bool:
    with contextlib.suppress(RuntimeError, ValueError):
        return sent.is_published()
    return False
