"""One thread beside each worker process: it listens, watches, and sees it to its end.

Frames become events; what the worker prints goes to its log; a worker that answers no ping or
outgrows its memory limit is killed. The last thing a minder says is WorkerExited.
"""

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable

import msgspec

from edge_agent.mind import events
from edge_agent.mind.events import Event
from edge_agent.worker import protocol
from edge_agent.workers import captured, memory
from edge_agent.workers.captured import CappedLog
from runtime.errors import LinkError

log = logging.getLogger(__name__)

PING_S = 10.0
PONG_TIMEOUT_S = 30.0
MEMORY_S = 1.0
SEND_TIMEOUT_S = 5.0
EXIT_S = 5.0
"""How long a worker whose socket has closed may take to end."""
READ_BYTES = 1 << 16

_DECODER: msgspec.msgpack.Decoder[protocol.AnyFromWorker] = msgspec.msgpack.Decoder(
    protocol.AnyFromWorker
)


class Hooks(msgspec.Struct, frozen=True):
    """Whom a minder tells; called from its own thread."""

    put: Callable[[Event], None]
    spooled: Callable[[str, int], None]
    """Module: records lie in its spool, and so many more had no room there."""
    source_trouble: Callable[[str, str, str], None]
    """Module, source, text; an empty text: the source can be read again."""


class Minder:
    """Minds one worker from its start to its end."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        control: socket.socket,
        *,
        module: str,
        slot: int,
        memory_mb: int | None,
        memory_limit: str = "resources.memory_mb",
        printed: CappedLog,
        hooks: Hooks,
    ) -> None:
        """Take over a child whose stdout and stderr are one pipe, and our end of its socket."""
        self.module, self.slot = module, slot
        self._child, self._control, self._memory_mb = child, control, memory_mb
        self._memory_limit = memory_limit
        self._printed, self._hooks = printed, hooks
        self._sending = threading.Lock()
        self._received = bytearray()
        self._tail = b""
        self._verdict = ""
        self._is_final = False
        self._stopping = False
        self._kill_at: float | None = None
        self._serving = False
        self._ponged = self._pinged = time.monotonic()
        control.settimeout(SEND_TIMEOUT_S)
        self._thread = threading.Thread(target=self._run, name=f"minder-{slot}", daemon=True)
        self._thread.start()

    def send(self, message: protocol.ToWorker) -> None:
        """Tell the worker something; one that does not listen any more is killed."""
        try:
            with self._sending:
                self._control.sendall(protocol.encode(message))
        except OSError as error:
            self._end(f"it takes no orders: {error}")

    def stop(self, *, grace_s: float, kill: bool = False) -> None:
        """Have the worker end: at once, or when it has drained."""
        self._stopping = True
        if kill:
            self._child.kill()
            return
        self._kill_at = time.monotonic() + grace_s
        self.send(protocol.Stop())

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; return whether it has come."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def kill(self) -> None:
        """End it now: it had its time."""
        self._child.kill()

    def _run(self) -> None:
        try:
            self._mind()
        except Exception:  # the outermost loop: nobody else would see the worker's end
            log.exception("minder failed", extra={"module_name": self.module, "slot": self.slot})
            self._end("its minder failed")
        self._bury()

    def _mind(self) -> None:
        pipe = self._child.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ)
            while True:
                # Asked first: what it said before it ended is then still read below.
                ended = self._child.poll() is not None
                ready = selector.select(0 if ended else self._patience_s())
                for key, _ in ready:
                    if key.fileobj is self._control:
                        if not self._listen():
                            return
                    elif not self._note():
                        selector.unregister(key.fileobj)
                if ended and not ready:
                    return
                self._watch()

    def _patience_s(self) -> float:
        if self._memory_mb is not None or self._kill_at is not None:
            return MEMORY_S
        return PING_S

    def _listen(self) -> bool:
        """Handle what the worker says; return False once it has hung up."""
        try:
            data = self._control.recv(READ_BYTES)
        except OSError:
            return False
        self._received += data
        try:
            while (frame := self._frame()) is not None:
                self._handle(_DECODER.decode(frame))
        except (LinkError, msgspec.DecodeError) as error:
            self._end(f"it speaks nonsense: {error}")
            return False
        return bool(data)

    def _frame(self) -> bytes | None:
        """Return the body of the next whole frame, if there is one."""
        head = protocol.LENGTH_BYTES
        length = int.from_bytes(self._received[:head], "big")
        if length > protocol.MAX_FRAME_BYTES:
            raise LinkError(f"a frame of {length} bytes")
        if len(self._received) < max(head, head + length):
            return None
        frame = bytes(self._received[head : head + length])
        del self._received[: head + length]
        return frame

    def _handle(self, message: protocol.AnyFromWorker) -> None:
        match message:
            case protocol.Accepting():
                self._ponged, self._serving = time.monotonic(), True
                self._hooks.put(events.WorkerAccepting(self.module, self.slot))
            case protocol.Spooled():
                self._hooks.spooled(self.module, message.dropped)
            case protocol.SourceTrouble():
                self._hooks.source_trouble(self.module, message.source, message.text)
            case protocol.Pong():
                self._ponged = time.monotonic()
            case _ if (event := _event(message, self.module, self.slot)) is not None:
                self._hooks.put(event)

    def _note(self) -> bool:
        """Keep what the worker printed; return False once it prints no more."""
        pipe = self._child.stdout
        data = b"" if pipe is None else os.read(pipe.fileno(), READ_BYTES)
        if data:
            self._printed.append(data)
            self._tail = (self._tail + data)[-captured.LAST_LINE_BYTES * 4 :]
        return bool(data)

    def _watch(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self._child.kill()
        if self._memory_mb is not None:
            self._weigh(self._memory_mb)
        if not self._serving or self._stopping:
            return
        if now - self._ponged > PONG_TIMEOUT_S:
            self._end(f"no answer to pings for {PONG_TIMEOUT_S:.0f} s")
        elif now - self._pinged >= PING_S:
            self._pinged = now
            self.send(protocol.Ping())

    def _weigh(self, limit_mb: int) -> None:
        used = memory.resident_bytes(self._child.pid) or 0
        if used > limit_mb * memory.MIB:
            self._is_final = True
            used_mb = used / memory.MIB
            limit = f"limit {limit_mb} MiB ({self._memory_limit})"
            self._end(f"memory: used {used_mb:.0f} MiB, {limit}")

    def _end(self, why: str) -> None:
        """Kill the worker, and remember the first reason for it."""
        self._verdict = self._verdict or why
        self._child.kill()

    def _bury(self) -> None:
        try:
            code = self._child.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self._end("it hung up but did not end")
            code = self._child.wait()
        if self._child.stdout is not None:
            self._read_the_rest(self._child.stdout.fileno())
            self._child.stdout.close()
        with self._sending:
            self._control.close()
        text = "stopped" if self._stopping and not self._verdict else self._obituary(code)
        log.info(
            "worker ended", extra={"module_name": self.module, "slot": self.slot, "reason": text}
        )
        self._hooks.spooled(self.module, 0)
        self._hooks.put(events.WorkerExited(self.module, self.slot, text, self._is_final))

    def _read_the_rest(self, handle: int) -> None:
        """Keep its last words; whoever else holds the pipe open is not waited for."""
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            selector.register(handle, selectors.EVENT_READ)
            while selector.select(0) and self._note():
                pass

    def _obituary(self, code: int) -> str:
        if self._verdict:
            return self._verdict
        if code < 0:
            how = f"the worker was killed by {_signal_name(-code)}"
        else:
            how = f"the worker ended with code {code}"
        said = captured.last_line(self._tail)
        return f"{how}: {said}" if said else how


def _event(message: protocol.AnyFromWorker, module: str, slot: int) -> Event | None:
    """Return what a worker says as the mind hears it; None: that is not the mind's."""
    event: Event | None = None
    match message:
        case protocol.Warming():
            event = events.WorkerWarming(module, slot, message.text)
        case protocol.Loaded():
            event = events.WorkerLoaded(module, slot)
        case protocol.Failed():
            event = events.WorkerFailed(module, slot, message.text or message.kind)
        case protocol.Checked():
            event = events.WorkerChecked(module, slot, message.ok, message.text)
        case protocol.Held():
            event = events.WorkerHeld(module, slot)
        case protocol.SourcesStopped():
            event = events.SourcesStopped(module, slot)
        case protocol.Counted():
            event = events.CandidateCounted(module, slot, message.counts)
    return event


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
