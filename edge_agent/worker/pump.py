"""Reads one source in a thread of its own, item by item, and keeps at it."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from edge_agent.worker.sources import Item, Source, SourceError
from runtime.errors import SpaceError
from runtime.retry import Backoff

log = logging.getLogger(__name__)

FIRST_WAIT_S, MOST_WAIT_S = 0.5, 30.0
JOIN_S = 2.0
"""How long a stopped source may take to let go. A generator that waits for its sensor is left."""


class Pump:
    """One source from start to stop. A pump is used once."""

    def __init__(
        self,
        uri: str,
        *,
        open_source: Callable[["Pump"], Source],
        consume: Callable[[Item], None],
        tell: Callable[[str], None],
    ) -> None:
        """Prepare.

        `consume` records an item, or raises SpaceError to be given it again. `tell` is called when
        a trouble begins, changes, or ends ("").
        """
        self._uri, self._open, self._consume, self._tell = uri, open_source, consume, tell
        self._backoff = Backoff(FIRST_WAIT_S, MOST_WAIT_S)
        self.stopping = threading.Event()
        self._hand = threading.Lock()
        """Held while an item is on its way into the spool."""
        self._told = ""
        self._thread: threading.Thread | None = None

    def start(self, position: str | None) -> None:
        """Read on from behind this position."""
        self._thread = threading.Thread(
            target=self._run, args=(position,), name=f"source-{self._uri[:40]}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Return once the item in hand is recorded; no other will be."""
        self.stopping.set()
        with self._hand:
            pass
        if self._thread is not None:
            self._thread.join(JOIN_S)
            if self._thread.is_alive():
                log.warning("source does not let go", extra={"source": self._uri})

    def tell(self, text: str) -> None:
        """Pass a trouble on, once."""
        if text != self._told and not self.stopping.is_set():
            self._told = text
            self._tell(text)

    def _run(self, position: str | None) -> None:
        ended = False
        while not ended and not self.stopping.is_set():
            try:
                for reached in self._read(self._open(self), position):
                    position = reached
                ended = True
            except (SourceError, OSError) as error:
                self.tell(str(error))
            except Exception as error:  # the outermost loop of this thread
                log.exception("source failed", extra={"source": self._uri})
                self.tell(f"{self._uri}: {type(error).__name__}: {error}")
            if not ended:
                self.stopping.wait(self._backoff.next())

    def _read(self, source: Source, position: str | None) -> Iterator[str | None]:
        """Record items until there are no more, and yield how far that is."""
        with contextlib.closing(source.items(position)) as items:
            for item in items:
                with self._hand:
                    if not self._record(item):
                        return
                self._backoff.reset()
                self.tell("")
                if item.position is not None:
                    position = item.position
                yield position

    def _record(self, item: Item) -> bool:
        """Return whether the item is recorded; a full spool is waited for, until stopped."""
        while not self.stopping.is_set():
            if self._consumed(item):
                return True
            self.stopping.wait(self._backoff.next())
        return False

    def _consumed(self, item: Item) -> bool:
        try:
            self._consume(item)
        except SpaceError as error:
            self.tell(str(error))
            return False
        return True
