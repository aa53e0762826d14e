"""A TCP proxy that stands for a bad line: slow, lossy, cut now and then, or down for a while.

with lines.line(server_port, delay_s=0.3) as line:
    connect to 127.0.0.1:line.port
    line.to_client    bytes that came through from the server
"""

import contextlib
import queue
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence

from tests.support import brokers

CHUNK_BYTES = 16 * 1024
ENDS = b""


class Line:
    """One proxy on 127.0.0.1; counts what it carries."""

    def __init__(
        self,
        port: int,
        *,
        delay_s: float = 0.0,
        jitter_s: float = 0.0,
        stall: float = 0.0,
        stall_s: float = 0.0,
        cuts: Sequence[int] = (),
        period_s: float = 0.0,
        bytes_per_s: float = 0.0,
        seed: int = 1,
    ) -> None:
        """Carry to `port`, each way `delay_s` late, and no faster to the client than a rate.

        `stall` is the fraction of chunks that come `stall_s` later, as after a lost packet. `cuts`
        are counts of bytes to the client at which the connection breaks. With a period the line is
        up for one, then down for one, and so on.
        """
        self._port, self._delay_s, self._jitter_s = port, delay_s, jitter_s
        self._stall, self._stall_s, self._period_s = stall, stall_s, period_s
        self._bytes_per_s = bytes_per_s
        self._chunk_bytes = int(bytes_per_s / 100) or CHUNK_BYTES
        self._random, self._cuts = random.Random(seed), sorted(cuts)
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._started = time.monotonic()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.to_client = 0
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def is_up(self) -> bool:
        """Whether the line carries anything now."""
        if not self._period_s:
            return True
        return (time.monotonic() - self._started) // self._period_s % 2 == 0

    def await_bytes(self, count: int, timeout_s: float = 60.0) -> None:
        """Return once so many have come through to the client."""
        brokers.eventually(lambda: self.to_client >= count, f"{count} bytes have come", timeout_s)

    def close(self) -> None:
        """End everything."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()  # nobody comes in any more
        for each in self._sockets:
            _break(each)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _start(self, duty: object, *given: object) -> None:
        thread = threading.Thread(target=duty, args=given, daemon=True)  # type: ignore[arg-type] # our own methods
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self.is_up:
                _break(client)
                client.close()
                continue
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._port))
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                self._start(self._take, source, way)
                self._start(self._give, target, source, way, target is client)

    def _take(self, source: socket.socket, way: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        chunk = b"begins"
        while chunk:
            try:
                chunk = source.recv(self._chunk_bytes)
            except OSError:
                chunk = ENDS
            late_s = self._delay_s + self._random.uniform(-self._jitter_s, self._jitter_s)
            if self._random.random() < self._stall:
                late_s += self._stall_s
            way.put((time.monotonic() + max(late_s, 0.0), chunk))

    def _give(
        self,
        target: socket.socket,
        source: socket.socket,
        way: "queue.SimpleQueue[tuple[float, bytes]]",
        counted: bool,  # noqa: FBT001 - a thread's argument
    ) -> None:
        while True:
            due, chunk = way.get()
            if counted and self._bytes_per_s:
                due = max(due, time.monotonic()) + len(chunk) / self._bytes_per_s
            self._closing.wait(max(0.0, due - time.monotonic()))
            broken = not chunk or not self.is_up
            with self._lock:
                if counted and not broken:
                    chunk, broken = self._until_cut(chunk)
                    self.to_client += len(chunk)
            try:
                if chunk and self.is_up:
                    target.sendall(chunk)
            except OSError:
                broken = True
            if broken:
                break
        for each in (source, target):
            _break(each)

    def _until_cut(self, chunk: bytes) -> tuple[bytes, bool]:
        """Return what of a chunk comes through, and whether the connection breaks after it."""
        if not self._cuts or self.to_client + len(chunk) <= self._cuts[0]:
            return chunk, False
        return chunk[: max(0, self._cuts.pop(0) - self.to_client)], True


def _break(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def line(port: int, **manner: object) -> Iterator[Line]:
    """Run a line to a port of this machine."""
    made = Line(port, **manner)  # type: ignore[arg-type] # checked by running
    try:
        yield made
    finally:
        made.close()
