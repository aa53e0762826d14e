"""One thread for many devices: sockets, timers and calls from other threads.

Everything that a device does happens here, one thing after the other, and nothing here waits but
the loop itself. What must wait (a TLS handshake, a download) has a thread of a small pool, which
comes back by `call`.
"""

import contextlib
import functools
import heapq
import itertools
import logging
import os
import queue
import select
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from runtime.clock import Clock

log = logging.getLogger(__name__)

MOST_WAIT_S = 0.5
OPENERS = 4
"""Threads that make connections: as many handshakes are under way."""


class Timer:
    """Something to do later; may be cancelled."""

    __slots__ = ("do",)

    def __init__(self, do: Callable[[], None]) -> None:
        """Wait to be called."""
        self.do: Callable[[], None] | None = do

    def cancel(self) -> None:
        """Do nothing when the time comes."""
        self.do = None


class Socketed(Protocol):
    """What has a socket."""

    def work(self, *, readable: bool) -> None:
        """Read and write."""
        ...


class Loop:
    """The loop; all methods but `call` and `in_background` are its own thread's."""

    def __init__(self, clock: Clock) -> None:
        """Begin with nothing to do."""
        self.clock = clock
        self._poll = select.epoll()
        self._owners: dict[int, Socketed] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake_fd, select.EPOLLIN)
        self._pool = ThreadPoolExecutor(OPENERS, thread_name_prefix="opener")
        self.ended = False

    def call(self, do: Callable[[], None]) -> None:
        """Have something done in the loop's thread, soon; from any thread."""
        self._calls.put(do)
        os.eventfd_write(self._wake_fd, 1)

    def in_background(self, do: Callable[[], None]) -> None:
        """Do something that may wait, in another thread; it comes back by `call`."""
        self._pool.submit(do)

    def later(self, delay_s: float, do: Callable[[], None]) -> Timer:
        """Do something after a while."""
        timer = Timer(do)
        due = self.clock.monotonic() + max(0.0, delay_s)
        heapq.heappush(self._timers, (due, next(self._numbers), timer))
        return timer

    def watch(self, fd: int, owner: Socketed, *, writing: bool) -> None:
        """Have `owner` work when its socket is ready."""
        self._poll.register(fd, _mask(writing=writing))
        self._owners[fd] = owner

    def rewatch(self, fd: int, *, writing: bool) -> None:
        """Change what a socket is watched for."""
        self._poll.modify(fd, _mask(writing=writing))

    def unwatch(self, fd: int, owner: Socketed) -> None:
        """Watch a socket no more; after it is closed its number may be another owner's."""
        if self._owners.get(fd) is not owner:
            return
        del self._owners[fd]
        with contextlib.suppress(OSError):  # what is closed is not watched any more
            self._poll.unregister(fd)

    def run(self) -> None:
        """Run until `ended`."""
        while not self.ended:
            self.turn()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def turn(self) -> None:
        """Wait for the next thing that happens, and do all that is due."""
        for fd, mask in self._poll.poll(self._wait_s()):
            if fd == self._wake_fd:
                os.eventfd_read(fd)
            elif (owner := self._owners.get(fd)) is not None:  # one before it may have ended it
                self._safely(functools.partial(owner.work, readable=bool(mask & ~select.EPOLLOUT)))
        while not self._calls.empty():
            self._safely(self._calls.get())
        now = self.clock.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.do is not None:
                self._safely(timer.do)

    def _wait_s(self) -> float:
        if not self._timers:
            return MOST_WAIT_S
        return min(MOST_WAIT_S, max(0.0, self._timers[0][0] - self.clock.monotonic()))

    def _safely(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception:  # the outermost loop: one device's trouble is not another's
            log.exception("simulated device failed")


def _mask(*, writing: bool) -> int:
    return select.EPOLLIN | (select.EPOLLOUT if writing else 0)
