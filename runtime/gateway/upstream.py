"""One HTTP/1.1 connection to a replica: a request, its answer, the next request.

    ask ──► head ─┬─ small and of known size ──► Answer with its body
                  └─ long, or no size told   ──► Answer with `stream`: chunk, chunk, … b""

An answer that is passed on whole has either come whole or has not come: it can still be asked for
elsewhere when the connection breaks in the middle. httptools reads; aiohttp's own client costs
three times as much as all the rest of a small request (docs/specs/gateway.md).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import httptools

from runtime.gateway.errors import BrokenOffError, LateError, TryError
from runtime.gateway.retries import Failure

WHOLE_BYTES = 256 * 1024
"""Answers up to this size are passed on whole."""
HEAD_BYTES = 64 * 1024
BUFFER_BYTES = 256 * 1024
"""Of a streamed answer, read ahead of the client."""

Headers = list[tuple[bytes, bytes]]


@dataclass
class Answer:
    """A replica's answer."""

    status: int
    headers: Headers
    body: bytes
    stream: "Connection | None" = None
    """Where the body comes from; None: it is all in `body`."""


class Connection(asyncio.Protocol):
    """A connection that is open, or was."""

    def __init__(self, on_end: Callable[["Connection"], None]) -> None:
        """Call `on_end` when it closes while nobody waits for an answer."""
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._asked: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._bodyless = False
        self._reset()

    def _reset(self) -> None:
        self._headers: Headers = []
        self._head_bytes = 0
        self._length: int | None = None
        self._chunked = False
        self._answer: Answer | None = None
        self._chunks: deque[bytes] = deque()
        self._held_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._complete = self._keeps = False
        self._broken: Exception | None = None
        self._paused = False

    @property
    def reusable(self) -> bool:
        """Whether another request may be asked."""
        transport = self._transport
        return (
            transport is not None
            and not transport.is_closing()
            and self._asked is None
            and (self._answer is None or (self._complete and self._keeps))
        )

    @property
    def length(self) -> int | None:
        """Size of the answer's body, if its head tells."""
        return self._length

    def ask(
        self, parts: Sequence[bytes], deadline: float, *, bodyless: bool = False
    ) -> "asyncio.Future[Answer]":
        """Send a request; the answer, or at least its head, is to be there by `deadline` (loop).

        `bodyless`: the answer has none, whatever its head says (HEAD). The future raises TryError
        or LateError. Cancelling it closes the connection.
        """
        self._reset()
        self._bodyless = bodyless
        asked = self._asked = self._loop.create_future()
        if self._transport is None or self._transport.is_closing():
            self._fail(TryError(Failure.SILENT, "the connection was closed"))
            return asked
        self._transport.writelines(parts)
        self._timer = self._loop.call_at(deadline, self._late)
        asked.add_done_callback(self._answered)
        return asked

    async def chunk(self, timeout_s: float) -> bytes:
        """Return the next piece of a streamed body, b"" after the last.

        Raises BrokenOffError if it ends too early, LateError if nothing comes in time.
        """
        while not self._chunks:
            if self._broken is not None:
                raise BrokenOffError(str(self._broken))
            if self._complete:
                return b""
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(timeout_s, self._starve, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        piece = b"".join(self._chunks)
        self._chunks.clear()
        self._held_bytes = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return piece

    def close(self) -> None:
        """End it, whatever it does."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._asked is None and (self._answer is None or self._complete):
            self.close()  # nobody asked for this
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._garbled(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits for more; an answer without a size ends here as it should."""
        self._transport = None
        if self._asked is None and (self._answer is None or self._complete):
            self._on_end(self)
        elif self._endless and exc is None:
            self.on_message_complete()
        else:
            self._fail(TryError(Failure.SILENT, str(exc or "the connection was closed")))

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header, or a trailer, which is dropped."""
        if self._answer is not None:
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES:
            self._garbled("its headers are too large")
            return
        lower = name.lower()
        if lower == b"content-length":
            self._length = int(value)
        elif lower == b"transfer-encoding":
            self._chunked = True
        self._headers.append((lower, value))

    def on_headers_complete(self) -> None:
        """Decide whether the answer is passed on whole."""
        status = self._parser.get_status_code()
        if status < 200 or self._asked is None:  # noqa: PLR2004 - 100 Continue, 103 Early Hints
            self._headers = []
            return
        answer = self._answer = Answer(status, self._headers, b"")
        if self._bodyless:
            self._complete = True
            self._resolve(answer)
        elif (self._length is None and not self._empty) or (self._length or 0) > WHOLE_BYTES:
            answer.stream = self
            self._resolve(answer)

    def on_body(self, data: bytes) -> None:
        """Keep a piece."""
        if self._complete:
            return
        self._chunks.append(data)
        self._held_bytes += len(data)
        if self._asked is not None:
            return
        if self._held_bytes > BUFFER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """End the answer."""
        answer = self._answer
        if answer is None or self._complete:
            return
        self._complete, self._keeps = True, self._parser.should_keep_alive()
        if self._asked is not None:
            answer.body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._resolve(answer)
        self._wake()

    # inside

    @property
    def _empty(self) -> bool:
        return self._answer is not None and self._answer.status in {204, 304}

    @property
    def _endless(self) -> bool:
        """Whether the answer ends with the connection."""
        return self._answer is not None and self._length is None and not self._chunked

    def _resolve(self, answer: Answer) -> None:
        asked, self._asked = self._asked, None
        if asked is not None and not asked.done():
            asked.set_result(answer)

    def _fail(self, error: Exception) -> None:
        asked, self._asked = self._asked, None
        self._broken = error
        if asked is not None and not asked.done():
            asked.set_exception(error)
        self._wake()

    def _garbled(self, why: str) -> None:
        self._fail(TryError(Failure.GARBLED, f"no HTTP: {why}"))
        self.close()

    def _late(self) -> None:
        self._fail(LateError("no answer in time"))
        self.close()

    def _starve(self, waiter: "asyncio.Future[None]") -> None:
        if not waiter.done():
            waiter.set_exception(LateError("the answer does not go on"))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _answered(self, asked: "asyncio.Future[Any]") -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if asked.cancelled():
            self._asked = None
            self.close()
