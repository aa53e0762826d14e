"""Real worker processes, driven as the agent drives them.

with workers.running(directory, index, sources=("directory:",)) as worker:
    worker.expect(protocol.Loaded)
"""

import collections
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edge_agent.telemetry.spool import SpoolReader
from edge_agent.worker import protocol
from runtime import children
from runtime.batches import Record
from runtime.bundle import index as bundle_index
from runtime.messages import Capture
from tests.support import serving
from tests.support.serving import UnixConnection

Said = TypeVar("Said", bound=protocol.FromWorker)
PATIENCE_S = 60.0


class Worker:
    """One worker process and the agent's end of its socket."""

    def __init__(self, start: protocol.Start) -> None:
        """Spawn it and tell it to load."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = children.spawn(
                [sys.executable, "-m", "edge_agent.worker", "--control-fd", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), *start.listener_fds),
                stderr=subprocess.PIPE,
            )
        self.control = ours
        self.log = ""
        self._said: collections.deque[protocol.FromWorker] = collections.deque()
        self._news = threading.Condition()
        self._threads = [
            threading.Thread(target=self._hear, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self.send(start)

    def send(self, *orders: protocol.ToWorker) -> None:
        """Order something."""
        for order in orders:
            self.control.sendall(protocol.encode(order))

    def expect(self, kind: type[Said]) -> Said:
        """Return the next message of this kind, and forget those before it."""
        deadline = time.monotonic() + PATIENCE_S
        with self._news:
            while True:
                while self._said:
                    said = self._said.popleft()
                    if isinstance(said, kind):
                        return said
                left = deadline - time.monotonic()
                assert left > 0, f"no {kind.__name__}: {self.log}"
                self._news.wait(left)

    def load(self) -> None:
        """Wait until it has loaded."""
        self.expect(protocol.Loaded)

    def end(self) -> int:
        """Wait until the process has ended; return its exit code."""
        code = self.process.wait(PATIENCE_S)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        return code

    def kill(self) -> None:
        """Kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
        self.end()
        self.control.close()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _hear(self) -> None:
        buffer = b""
        while data := _receive(self.control):
            buffer += data
            while len(buffer) >= protocol.LENGTH_BYTES:
                end = protocol.LENGTH_BYTES + int.from_bytes(buffer[: protocol.LENGTH_BYTES], "big")
                if len(buffer) < end:
                    break
                body, buffer = buffer[protocol.LENGTH_BYTES : end], buffer[end:]
                said = msgspec.msgpack.decode(body, type=protocol.AnyFromWorker)
                with self._news:
                    self._said.append(said)
                    self._news.notify_all()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line.decode(errors="replace")


class Module:
    """A bundle's directory, spool, inbox and listener: what several workers in turn share."""

    def __init__(self, directory: Path, short: Path) -> None:
        self.directory, self.spool, self.inbox = directory, short / "spool", short / "inbox"
        self.spool.mkdir()
        self.inbox.mkdir()
        self.path = str(short / "s")
        self.listener = serving.listen(Path(self.path))
        self._reader = SpoolReader(self.spool)
        self._cursors: dict[str, int] = {}
        self.records: list[Record] = []

    def start(self, **settings: Any) -> Worker:
        """Start a worker of this module; it loads. Settings: see `order`."""
        return Worker(self.order(**settings))

    def order(
        self,
        *,
        sources: tuple[str, ...] = (),
        capture: Capture | None = None,
        version: int = 1,
        directory: Path | None = None,
        allow: tuple[str, ...] = ("entry-script",),
    ) -> protocol.Start:
        """Return what a worker is told first."""
        bundle = directory or self.directory
        index = bundle_index.decode((bundle / ".index.json").read_bytes())
        return protocol.Start(
            module="mod",
            bundle=bundle_index.identity(index),
            model=index.name,
            version=version,
            bundle_directory=str(bundle),
            spool_directory=str(self.spool),
            sources=sources,
            source_roots=(str(self.inbox),),
            capture=capture or Capture(),
            listener_fds=(self.listener.fileno(),),
            allow=allow,
        )

    def connect(self) -> UnixConnection:
        """Return a new connection to whoever serves."""
        return UnixConnection(self.path)

    def drain(self) -> list[Record]:
        """Move what lies in the spool to `records`, as the agent does; return all of them."""
        while frames := self._reader.read(self._cursors, 1000):
            for frame in frames:
                self._cursors[frame.segment] = frame.end
                self.records.append(msgspec.msgpack.decode(frame.payload, type=Record))
        return self.records

    def positions(self) -> Mapping[str, str]:
        """Return each source's position, from the records drained so far."""
        return {
            record.source: record.position
            for record in self.records
            if record.source is not None and record.position is not None
        }

    def wait_for(self, count: int) -> list[Record]:
        """Return the records once there are at least so many."""
        deadline, tick = time.monotonic() + PATIENCE_S, threading.Event()
        while len(self.drain()) < count:
            assert time.monotonic() < deadline, f"{len(self.records)} records of {count}"
            tick.wait(0.02)
        return self.records


@contextlib.contextmanager
def module(directory: Path) -> Iterator[Module]:
    """Make a module for the bundle in `directory`."""
    with tempfile.TemporaryDirectory(prefix="ph-") as short:
        made = Module(directory, Path(short))
        yield made
        made.listener.close()


@contextlib.contextmanager
def running(worker: Worker) -> Iterator[Worker]:
    """Have a worker loaded, and gone afterwards."""
    try:
        worker.load()
        yield worker
    finally:
        worker.close()


def put(path: Path, data: bytes) -> None:
    """Put a file into an inbox the way one should: whole, by renaming."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    fresh.rename(path)


def _receive(control: socket.socket) -> bytes:
    try:
        return control.recv(65536)
    except OSError:
        return b""
