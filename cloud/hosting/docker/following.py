"""The logs of several replicas as one stream."""

import contextlib
import datetime as dt
import queue
import threading
from collections.abc import Iterator

from cloud.hosting.docker import marks
from cloud.hosting.targets import LogLine
from runtime.containers.engine import MAX_LINE_BYTES, Engine, Stream
from runtime.containers.errors import EngineError, EngineRefusedError
from runtime.containers.specs import ContainerSeen

LOOK_S = 1.0
"""How often it looks for new replicas."""
_HELD_LINES = 1000


class Following:
    """One reader's view of a service's logs."""

    def __init__(
        self, engine: Engine, service: str, *, revision: int | None, follow: bool, tail: int
    ) -> None:
        """`tail` lines of each replica come first; `revision` None: of all."""
        self._engine, self._service, self._revision = engine, service, revision
        self._follow, self._tail = follow, tail
        self._lines: queue.Queue[LogLine] = queue.Queue(_HELD_LINES)
        self._streams: dict[str, Stream] = {}
        self._readers: dict[str, threading.Thread] = {}
        self._ended = threading.Event()

    def lines(self) -> Iterator[LogLine]:
        """Yield lines; closing the iterator ends what reads them."""
        if not self._follow:
            yield from self._written()
            return
        try:
            while True:
                self._attend()
                try:
                    line = self._lines.get(timeout=LOOK_S)
                except queue.Empty:
                    continue
                yield line
                while not self._lines.empty():
                    yield self._lines.get()
        finally:
            self._ended.set()
            for stream in self._streams.values():
                stream.close()

    def _written(self) -> Iterator[LogLine]:
        """Yield what is written already, in the order of time."""
        found = []
        for replica in self._replicas():
            with contextlib.suppress(EngineRefusedError):  # it is being removed just now
                stream = self._engine.follow(replica.id, lines=self._tail, follow=False)
                found += list(read(replica.name, stream))
        yield from sorted(found, key=lambda each: each.at or 0.0)

    def _replicas(self) -> list[ContainerSeen]:
        found = self._engine.containers({marks.SERVICE: self._service, marks.ROLE: marks.REPLICA})
        return [each for each in found if self._revision in {None, marks.revision_of(each)}]

    def _attend(self) -> None:
        """Listen to those replicas that nobody listens to yet, or not since they were restarted."""
        for replica in self._replicas():
            reader = self._readers.get(replica.id)
            if (reader is not None and reader.is_alive()) or not replica.running:
                continue
            lines = self._tail if reader is None else 0
            try:
                stream = self._engine.follow(replica.id, lines=lines, follow=True)
            except EngineRefusedError:
                continue  # it is being removed just now
            self._streams[replica.id] = stream
            thread = threading.Thread(
                target=self._pass_on, args=(replica.name, stream), name="logs", daemon=True
            )
            self._readers[replica.id] = thread
            thread.start()

    def _pass_on(self, replica: str, stream: Stream) -> None:
        try:
            for line in read(replica, stream):
                while not self._ended.is_set():
                    try:
                        self._lines.put(line, timeout=LOOK_S)
                        break
                    except queue.Full:
                        continue
        except EngineError:
            return  # the replica went; a new one is found by looking


def read(replica: str, stream: Stream) -> Iterator[LogLine]:
    """Yield the lines in what an engine sends, each with the time that stands before it."""
    rest = b""
    for chunk in stream:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield _line(replica, line)
        if len(rest) > MAX_LINE_BYTES:
            yield _line(replica, rest)
            rest = b""
    if rest:
        yield _line(replica, rest)


def _line(replica: str, data: bytes) -> LogLine:
    text = data[:MAX_LINE_BYTES].decode(errors="replace").rstrip("\r")
    stamp, separator, said = text.partition(" ")
    try:
        # Nanoseconds, of which Python takes microseconds.
        at = dt.datetime.fromisoformat(stamp[:26].rstrip("Z") + "+00:00").timestamp()
    except ValueError:
        return LogLine(replica, text)
    return LogLine(replica, said if separator else "", at)
