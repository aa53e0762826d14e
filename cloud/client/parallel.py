"""Several transfers at once: each in a thread of its own, with a connection of its own."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from cloud.transport import Transport

LANES = 4
"""How many; more do not help one link, and take memory at both ends."""

Item = TypeVar("Item")
Progress = Callable[[int], None]
"""Is told how many more bytes of content have passed; negative when an attempt was in vain."""


class Stopped(BaseException):
    """The transfer is given up: another one failed, or the user pressed Ctrl-C."""


class Lanes:
    """Threads for transfers. The first failure, or Ctrl-C, ends all of them."""

    def __init__(self, transport: Transport, progress: Progress) -> None:
        """`progress` is called by one thread at a time."""
        self._first, self._progress = transport, progress
        self._counting = threading.Lock()
        self._stopping = threading.Event()
        self._local = threading.local()
        self._opened: list[Transport] = []
        self._pool = ThreadPoolExecutor(LANES, thread_name_prefix="transfer")

    @property
    def transport(self) -> Transport:
        """The calling thread's own."""
        found: Transport | None = getattr(self._local, "transport", None)
        if found is None:
            found = self._local.transport = self._first.another(self._stopping)
            with self._counting:
                self._opened.append(found)
        return found

    def count(self, more: int) -> None:
        """Tell progress; raise Stopped if this transfer is to end."""
        with self._counting:
            self._progress(more)
        self.check()

    def check(self) -> None:
        """Raise Stopped if transfers are to end."""
        if self._stopping.is_set():
            raise Stopped

    def run(self, work: Callable[[Item], None], items: Iterable[Item]) -> None:
        """Do `work` on each item; raise the first error, upon which all other work ends too."""
        try:
            futures = [self._pool.submit(work, item) for item in items]
            wait(futures, return_when=FIRST_EXCEPTION)
            _raise_first(futures)
        except BaseException:
            self._stopping.set()
            raise

    def close(self) -> None:
        """End the threads and close their connections."""
        self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for transport in self._opened:
            transport.close()


@contextlib.contextmanager
def lanes(transport: Transport, progress: Progress) -> Iterator[Lanes]:
    """Give lanes whose threads and connections end with the block."""
    made = Lanes(transport, progress)
    try:
        yield made
    finally:
        made.close()


def _raise_first(futures: Iterable[Future[None]]) -> None:
    for future in futures:
        if future.done() and (error := future.exception()) is not None:
            raise error
