"""One script's process, kept running: started, asked, killed when it hangs, started again.

    starting ──Started──► up ──it ended, or was killed──► waiting ──► starting
        └──Failed──► waiting, or (at the very first) an error for whoever loads it

The first start after a process that had answered is made at once. If processes end without having
answered anything, each next one waits longer (full jitter, up to MOST_WAIT_S), and calls are told
to come again. The thread that starts a process also reads from it, since the kernel ends a child
with the thread that started it.
"""

import contextlib
import itertools
import logging
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

from runtime.errors import InvalidError, ModelError
from runtime.inference.tensors import Arrays
from runtime.retry import Backoff
from runtime.serving.errors import NotReadyError
from runtime.serving.scripts import frames, spawning
from runtime.serving.scripts.calls import EndedError, Pending
from runtime.serving.scripts.frames import Answer, Call, Cancel, End, More, Refused

log = logging.getLogger(__name__)

START_S = 300.0
"""How long a script may take to load."""
CANCEL_S = 1.0
"""How long one call of several may take to notice that it was cancelled."""
FIRST_WAIT_S, MOST_WAIT_S = 0.5, 30.0
PATIENCE_S = 2.0
"""A call waits so long for a process that is to be started; for longer it is told to come again."""


class Script:
    """A script's process. Its methods may be called from any thread."""

    def __init__(self, start: frames.Start, *, name: str, timeout_s: float) -> None:
        """Return once the script is loaded; raise ModelError if it does not load."""
        self._start_frame, self._name, self._timeout_s = start, name, timeout_s
        self._numbers = itertools.count(1)
        self._news = threading.Condition()
        self._child: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._pending: dict[int, Pending] = {}
        self._stuck: set[int] = set()  # who gave up on this process, whether or not still pending
        self._sending = threading.Lock()
        self._up = self._closed = self._answered = False
        self._failed = ""
        self._next_start = 0.0
        self._killed_for = ""
        self._backoff = Backoff(FIRST_WAIT_S, MOST_WAIT_S)
        self.restarts = 0
        self.started = frames.Started(has_run=False, streams=False, callers=1, output_names=None)
        threading.Thread(target=self._keep, name=f"script-{name}", daemon=True).start()
        self._await_first()

    @property
    def pid(self) -> int | None:
        """The process's number; None: there is none now."""
        child = self._child
        return None if child is None else child.pid

    def call(self, inputs: Arrays, wanted: tuple[str, ...] | None) -> Arrays:
        """Return what the script's run() gives.

        Raises ModelError or InvalidError as it does, ModelError if it takes too long, EndedError if
        the process ended meanwhile, NotReadyError if there is none for a while.
        """
        number, pending = self._begin(inputs, wanted, stream=False)
        try:
            given = self._next(pending, number)
        finally:
            self._forget(number)
        assert given is not None
        return given

    def stream(self, inputs: Arrays, wanted: tuple[str, ...] | None) -> Iterator[Arrays]:
        """Yield the pieces that the script's run() yields; raise what `call` does."""
        number, pending = self._begin(inputs, wanted, stream=True)
        ended = False
        try:
            while (piece := self._next(pending, number)) is not None:
                yield piece
                self._tell(More(number))
            ended = True
        finally:
            self._forget(number)
            if not ended:
                self._tell(Cancel(number))

    def close(self) -> None:
        """End the process; what is under way fails."""
        with self._news:
            self._closed = True
            self._kill(f"{self._name} has been unloaded")
            self._news.notify_all()

    # Called where somebody waits for an answer ----------------------------------------------------

    def _begin(
        self, inputs: Arrays, wanted: tuple[str, ...] | None, *, stream: bool
    ) -> tuple[int, Pending]:
        while True:
            number = next(self._numbers)
            with self._news:
                channel = self._await_up()
                pending = self._pending[number] = Pending(channel)
            try:
                with self._sending:
                    frames.send(channel, Call(number, wanted, stream), inputs)
            except BlockingIOError:
                self._kill(f"it read nothing for {self._timeout_s:g} seconds", channel)
            except OSError:
                # The process had ended already: this call is for the next one.
                self._forget(number)
                self._lost(channel)
                continue
            return number, pending

    def _next(self, pending: Pending, number: int) -> Arrays | None:
        try:
            given = pending.news.get(timeout=self._timeout_s)
        except queue.Empty:
            raise self._give_up(pending, number) from None
        if isinstance(given, Exception):
            raise given
        return given

    def _give_up(self, pending: Pending, number: int) -> ModelError | EndedError:
        """End a call that takes too long, with the process if need be; return what to raise."""
        late = ModelError(
            f"{self._name}: run took longer than {self._timeout_s:g} seconds and was stopped:"
            " raise resources.timeout_s, or mend the script"
        )
        with self._news:
            if self._channel is pending.channel:
                self._stuck.add(number)
            others = len(self._under_way()) - 1
        if self.started.callers > 1:
            self._tell(Cancel(number))
            with contextlib.suppress(queue.Empty):
                given = pending.news.get(timeout=CANCEL_S)
                if isinstance(given, EndedError):
                    return given
                with self._news:
                    self._stuck.discard(number)
                return late
        self._kill(f"a request took longer than {self._timeout_s:g} seconds", pending.channel)
        # With others beside it, any of them may hold up the process.
        return EndedError(str(late), others=others) if others else late

    def _under_way(self) -> set[int]:
        """Return which calls may hold up the process. Called with the lock."""
        return self._pending.keys() | self._stuck

    def _lost(self, channel: socket.socket) -> None:
        """Take note that nobody reads there any more; the process's thread will see it soon."""
        with self._news:
            if self._channel is channel:
                self._up = False

    def _forget(self, number: int) -> None:
        with self._news:
            self._pending.pop(number, None)

    def _tell(self, message: More | Cancel) -> None:
        channel = self._channel
        if channel is not None:
            with contextlib.suppress(OSError), self._sending:
                frames.send(channel, message)

    def _await_first(self) -> None:
        with self._news:
            self._news.wait_for(lambda: self._up or self._failed, START_S)
            if self._up:
                return
            self._closed = True
            self._kill("")
            text = self._failed or f"not loaded within {START_S:g} seconds"
        raise ModelError(text if self._name in text else f"{self._name}: {text}")

    def _await_up(self) -> socket.socket:
        """Return where the process reads; raise if there is none soon. Called with the lock."""
        deadline = time.monotonic() + START_S
        while not self._up or self._channel is None:
            if self._closed:
                raise NotReadyError(f"{self._name} has been unloaded: ask again")
            now = time.monotonic()
            wait_s = self._next_start - now
            if wait_s > PATIENCE_S or now > deadline:
                raise NotReadyError(
                    f"{self._name} is being restarted: {self._failed or 'its process ended'}",
                    retry_after_s=max(wait_s, 1.0),
                )
            self._news.wait(1.0)
        return self._channel

    def _kill(self, why: str, channel: socket.socket | None = None) -> None:
        """Kill the process and all that it started; its thread sees to the rest.

        With a channel, only if that is still the process's: it may be another one by now.
        """
        with self._news:
            if channel is not None and channel is not self._channel:
                return
            child, self._up, self._killed_for = self._child, False, why
            if child is not None:
                spawning.kill(child)

    # Called in the thread that keeps the process --------------------------------------------------

    def _keep(self) -> None:
        while not self._closed:
            channel = self._spawn()
            with channel:
                self._read(channel)
            self._ended()
            with self._news:
                wait_s = self._next_start - time.monotonic()
                self._news.wait_for(lambda: self._closed, max(0.0, wait_s))

    def _spawn(self) -> socket.socket:
        child, channel = spawning.spawn(self._timeout_s)
        with self._news:
            self._child, self._channel, self._answered = child, channel, False
            if self._closed:
                self._kill("")
        with contextlib.suppress(OSError):
            frames.send(channel, self._start_frame)
        return channel

    def _read(self, channel: socket.socket) -> None:
        """Hand out what the process says, until it ends."""
        while True:
            try:
                frame = frames.receive(channel)
            except OSError:
                return
            except InvalidError as error:
                self._kill(f"it does not keep to the protocol ({error})")
                return
            if frame is None:
                return
            message, arrays = frame
            match message:
                case frames.Started():
                    with self._news:
                        self.started, self._up = message, True
                        self._failed = self._killed_for = ""
                        self._news.notify_all()
                case frames.Failed(text=text):
                    self._failed = text
                case Answer(call=number):
                    self._hand(number, arrays)
                case End(call=number):
                    self._hand(number, None)
                case Refused(call=number, text=text, field=field, value=value):
                    failed = InvalidError(field, value, text) if field else ModelError(text)
                    self._hand(number, failed)

    def _hand(self, number: int, given: Arrays | Exception | None) -> None:
        self._answered = True
        pending = self._pending.get(number)
        if pending is not None:
            pending.news.put(given)

    def _ended(self) -> None:
        """Fail what was under way, and say when the next process starts."""
        with self._news:
            # Under the lock: nobody may kill by this number once it is free for another process.
            assert self._child is not None
            spawning.kill(self._child)  # also what the script itself started
            code = self._child.wait()
            self._up, self._channel = False, None
            why = self._killed_for or f"its process ended ({spawning.shown(code)})"
            self._failed = self._failed or why
            others = len(self._under_way()) - 1
            waiting, self._pending = self._pending, {}
            self._stuck.clear()
            if self._answered:
                self._backoff.reset()
                self._next_start = 0.0
            else:
                self._next_start = time.monotonic() + self._backoff.next()
            closed, self._child = self._closed, None
            self.restarts += 1
            self._news.notify_all()
        for pending in waiting.values():
            pending.news.put(EndedError(f"{self._name}: {why}", others=others))
        if not closed:
            extra = {"model": self._name, "reason": why, "requests": len(waiting)}
            log.error("script process ended", extra=extra)
