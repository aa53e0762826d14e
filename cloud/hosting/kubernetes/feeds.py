"""An iterator that threads fill: what several connections bring, as one.

thread ─put─┐
thread ─put─┼──► Feed ──next──► whoever asked; close() from any thread ends it all
thread ─put─┘
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

from cloud.hosting.errors import TargetError
from cloud.hosting.kubernetes.requests import Lines

Item = TypeVar("Item")


class Feed(Generic[Item]):
    """Items from any thread, in the order in which they came."""

    def __init__(self, size: int, *, distinct: bool = False) -> None:
        """Hold at most `size` items; `distinct`: one that waits already is not put again."""
        self._size, self._distinct = size, distinct
        self._items: deque[Item] = deque()
        self._streams: set[Lines] = set()
        self._news = threading.Condition()
        self._closed = self._ended = False
        self._error: TargetError | None = None

    def take(self) -> Item:
        """Wait for the next item; what came before the end is still given. Raise StopIteration."""
        with self._news:
            self._news.wait_for(lambda: self._items or self._ended or self._closed)
            if self._items and not self._closed:
                item = self._items.popleft()
                self._news.notify_all()
                return item
            if self._error is not None and not self._closed:
                error, self._error = self._error, None
                raise error
            raise StopIteration

    def put(self, item: Item) -> bool:
        """Give an item, when there is room for it; return whether anybody still wants any."""
        with self._news:
            if self._distinct and item in self._items:
                return not self._closed
            self._news.wait_for(
                lambda: len(self._items) < self._size or self._closed or self._ended
            )
            if self._closed or self._ended:
                return False
            self._items.append(item)
            self._news.notify_all()
            return True

    def finish(self, error: TargetError | None = None) -> None:
        """Let the iterator end, or raise, after what is waiting."""
        with self._news:
            self._ended = True
            self._error = self._error or error
            self._news.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until it is over; return whether it is."""
        with self._news:
            return self._news.wait_for(lambda: self._closed or self._ended, seconds)

    def reading(self, stream: Lines) -> Iterator[bytes]:
        """Yield a stream's lines; closing the feed ends it."""
        with self._news:
            if not self._closed:
                self._streams.add(stream)
        try:
            if not self.wait(0):
                yield from stream
        finally:
            with self._news:
                self._streams.discard(stream)
            stream.close()

    def close(self) -> None:
        """End it from any thread, and wake all that read for it."""
        with self._news:
            self._closed = self._ended = True
            self._items.clear()
            self._news.notify_all()
            streams = list(self._streams)
        for stream in streams:
            stream.end()


class Tap(Iterator[Item]):
    """The end of a feed that is handed out: when nobody has it any more, the feed is closed."""

    def __init__(self, feed: Feed[Item]) -> None:
        self._feed = feed

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> Item:
        """Wait for the next item."""
        return self._feed.take()

    def close(self) -> None:
        """End it, from any thread, even while another waits for an item."""
        self._feed.close()

    def __del__(self) -> None:
        """End it if it was forgotten: the threads that fill it would go on for ever."""
        self._feed.close()


def start(name: str, work: Callable[[], None]) -> None:
    """Run in a thread that does not keep the process alive."""
    threading.Thread(target=work, name=name, daemon=True).start()
