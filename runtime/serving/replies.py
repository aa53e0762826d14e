"""The way back: how an answer reaches whoever waits for it, in an event loop or in a thread."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections import deque
from typing import Protocol

from runtime.inference.tensors import Arrays

Outcome = Arrays | BaseException
PIECES_AHEAD = 4
"""Pieces of a streamed answer that may wait for their reader; then the model does."""
LOOK_S = 0.5


class Reply(Protocol):
    """Where an outcome goes. Called from the models' threads."""

    @property
    def gone(self) -> bool:
        """Say whether nobody waits any more."""
        ...

    def settle(self, outcome: Outcome) -> None:
        """Hand the outcome over; it may arrive only with the next `flush`."""
        ...

    def flush(self) -> None:
        """Let what was handed over arrive."""
        ...


class Carrier:
    """Carries outcomes to one event loop, with one wake-up for all that are ready."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._ready: deque[tuple[asyncio.Future[Arrays], Outcome]] = deque()
        self._called = False

    def put(self, future: "asyncio.Future[Arrays]", outcome: Outcome) -> None:
        """Take an outcome along."""
        self._ready.append((future, outcome))

    def flush(self) -> None:
        """Wake the loop, unless it has been and not yet looked."""
        if self._called or not self._ready:
            return
        self._called = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
            self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        # First this, then look: what is put from now on calls again.
        self._called = False
        while self._ready:
            future, outcome = self._ready.popleft()
            if future.done():
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


class LoopReply:
    """To a coroutine."""

    __slots__ = ("_carrier", "future")

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.future: asyncio.Future[Arrays] = carrier.loop.create_future()

    @property
    def gone(self) -> bool:
        """Say whether the coroutine was cancelled, or its deadline has passed."""
        return self.future.done()

    def settle(self, outcome: Outcome) -> None:
        """Hand the outcome over."""
        self._carrier.put(self.future, outcome)

    def flush(self) -> None:
        """Wake the loop."""
        self._carrier.flush()


class ThreadReply:
    """To a thread that waits."""

    __slots__ = ("future",)

    gone = False

    def __init__(self) -> None:
        self.future: concurrent.futures.Future[Arrays] = concurrent.futures.Future()

    def settle(self, outcome: Outcome) -> None:
        """Hand the outcome over."""
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)

    def flush(self) -> None:
        """Do nothing: it has arrived."""


class StreamReply:
    """To a coroutine that takes the answer piece by piece, none before it has room for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pieces: asyncio.Queue[Outcome | None] = asyncio.Queue()
        self._room = threading.Semaphore(PIECES_AHEAD)
        self.gone = False

    def piece(self, arrays: Arrays) -> bool:
        """Hand a piece over once there is room; say whether anybody wants more."""
        while not self._room.acquire(timeout=LOOK_S):
            if self.gone or self._loop.is_closed():
                return False
        if not self.gone:
            self._call(arrays)
        return not self.gone

    def settle(self, outcome: Outcome | None) -> None:
        """Say how the stream ended: None, or an error."""
        self._call(outcome)

    def flush(self) -> None:
        """Do nothing: it has arrived."""

    async def next(self) -> Arrays | None:
        """Return the next piece, None at the end; raise what the model raised."""
        outcome = await self._pieces.get()
        self._room.release()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def leave(self, error: BaseException | None = None) -> None:
        """Want no more; the reader, if there is one, gets the error."""
        self.gone = True
        self._room.release()
        if error is not None:
            self._pieces.put_nowait(error)

    def _call(self, outcome: Outcome | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, outcome)
