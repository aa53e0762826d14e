"""One client: HTTP/1.1, requests answered in the order in which they came.

             whole request              answered
    READING ───────────────► ANSWERING ───────────► READING, or ENDED after the last answer
       │ refused for good
       ▼
    PARTING ── the client has read why, or its time is up ──► ENDED

The fast path is `data_received`: a request that arrives whole, with a head seen before, is answered
in the same call. Everything else goes through `_advance`, which moves as far as the bytes at hand
allow. No phase waits for a client without a deadline: see runtime.serving.wire.watch.
"""

import asyncio
import http
import logging
import math
from collections.abc import Coroutine
from typing import Any

from runtime.serving.wire import answers, unread
from runtime.serving.wire.answers import Answer, Stream
from runtime.serving.wire.app import Reply
from runtime.serving.wire.direct import Direct
from runtime.serving.wire.errors import RefusedError
from runtime.serving.wire.head import END, Head, retry_after
from runtime.serving.wire.limits import body_deadline
from runtime.serving.wire.outlet import Outlet
from runtime.serving.wire.requests import Refusal, Request, Requests, Sign
from runtime.serving.wire.shared import Phase, Shared

log = logging.getLogger(__name__)

READING, ANSWERING, PARTING, ENDED = Phase


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, shared: Shared) -> None:
        self._shared, self._limits = shared, shared.limits
        self._known, self._ask = shared.heads.get, shared.app.answer
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._transport: Any = None
        self._outlet: Outlet
        self._requests = Requests(shared.app, shared.heads, shared.held, shared.limits)
        self.deadline = math.inf
        self._phase = READING
        self._fast = False
        """READING, with nothing here, and the client takes its answers."""
        self._begun: float | None = None
        """When the first byte came of the request that is being read."""
        self._direct = False
        self._head: Head | None = None
        """Of the request in hand."""
        self._last = False
        """The answer in hand is this connection's last."""
        self._task: asyncio.Task[Any] | None = None

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport, self._outlet = transport, Outlet(transport)
        self._shared.connections.add(self)
        self._rest()
        if len(self._shared.connections) > self._limits.connections:
            text = f"{self._limits.connections} clients are connected already: try again later"
            self._part(RefusedError(http.HTTPStatus.SERVICE_UNAVAILABLE, text, retry_after(1.0)))

    def data_received(self, data: bytes) -> None:
        """Answer, or go as far as these bytes allow."""
        if self._fast:
            end = data.find(END) + 4
            head = self._known(data[:end])
            if head is not None and len(data) - end == head.length and not head.chunked:
                reply = self._ask(head, data[end:])
                if type(reply) is Answer and head.keep_alive and not self._shared.holding:
                    self.deadline = self._now() + self._limits.idle_s
                    connection = answers.KEEP if head.old else b""
                    self._outlet.send(reply, connection, bodiless=head.is_head)
                else:
                    self._reply(head, reply)
                    self._advance()
                return
        self._requests.ahead += data
        self._advance()

    def eof_received(self) -> None:
        """Take a client that sends no more for one that has gone: the transport closes."""

    def connection_lost(self, _error: Exception | None) -> None:
        """Drop what the client asked for."""
        self._phase, self._fast, self.deadline = ENDED, False, math.inf
        self._shared.connections.discard(self)
        self._requests.release()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """Stop answering a client that does not read."""
        self._outlet.pause()
        self._fast = False
        self._due(self._limits.stall_s)

    def resume_writing(self) -> None:
        """Go on."""
        self._outlet.resume()
        if self._phase is READING:
            self._rest()
        elif self._phase is ANSWERING:
            self.deadline = math.inf
        self._advance()

    # What the server and its watch call.

    @property
    def idle(self) -> bool:
        """Say whether no request has begun, and every answer was taken."""
        return self._phase is READING and self._requests.quiet and not self._outlet.full

    def hold(self) -> None:
        """Let the request in hand, or the next one, be the last."""
        if self.idle:
            self._rest()

    def end(self, *, now: bool) -> None:
        """Close the connection if it is idle, or whatever it does."""
        if now:
            self._transport.abort()
        elif self.idle and not unread.waits(self._transport):
            self._end()

    def expire(self, now: float) -> None:
        """End what took too long."""
        if self._outlet.full or self._phase is ENDED:
            self.deadline = now + self._limits.stall_s
            if self._outlet.stuck():
                self._transport.abort()
        elif self.idle:
            if unread.waits(self._transport):
                self.deadline = now + unread.AGAIN_S
            else:
                self._end()
        elif self._phase is READING and not self._requests.discarding:
            text = "the request came too slowly: send it in one go"
            self._part(RefusedError(http.HTTPStatus.REQUEST_TIMEOUT, text))
        else:
            self._transport.abort()

    # Going forward.

    def _advance(self) -> None:
        while self._phase in {READING, PARTING} and not self._outlet.full:
            event = self._requests.next()
            if event is None:
                self._await_more()
                break
            self._act(event)
        if self._phase is ANSWERING or self._outlet.full:
            if len(self._requests.ahead) > self._limits.ahead_bytes:
                self._transport.pause_reading()
        elif self._phase is not ENDED:
            self._transport.resume_reading()

    def _act(self, event: Request | Refusal | Sign) -> None:
        if isinstance(event, Request):
            self._reply(event.head, self._ask(event.head, event.body))
        elif isinstance(event, Refusal):
            self._refuse(event)
        elif event is Sign.CONTINUE:
            self._transport.write(answers.CONTINUE)
        elif event is Sign.DROPPED:
            self._rest()
        else:
            self._phase = ENDED
            self._transport.abort()

    def _await_more(self) -> None:
        """Give the client time for the rest of what it began."""
        requests, bounds = self._requests, self._limits
        if self._phase is PARTING or requests.quiet:
            return
        self._fast = False
        intake, now = requests.coming, self._now()
        if self._begun is None:
            self._begun = now
            self._due(bounds.head_s)
        if intake is not None:
            self.deadline = body_deadline(now, self._begun, intake.got, bounds)
        self._turn(direct=requests.direct)

    # Reading a large body straight into its place.

    def room(self) -> memoryview:
        """Return where the loop shall read to."""
        return self._requests.room()

    def came(self, count: int) -> None:
        """Go on after the loop has read."""
        event = self._requests.filled(count)
        if event is None:
            assert self._requests.coming is not None
            assert self._begun is not None
            got = self._requests.coming.got
            self.deadline = body_deadline(self._now(), self._begun, got, self._limits)
        else:
            self._turn(direct=False)
            self._act(event)
            self._advance()

    def _turn(self, *, direct: bool) -> None:
        """Change who gets what is read; loops look at its kind when they begin to read."""
        if self._direct is not direct:
            self._direct = direct
            self._transport.pause_reading()
            self._transport.set_protocol(Direct(self) if direct else self)
            self._transport.resume_reading()

    # Answering.

    def _reply(self, head: Head, reply: Reply | Coroutine[Any, Any, Reply]) -> None:
        self._head, self._phase, self._fast = head, ANSWERING, False
        # Nobody is left behind: requests that came already are answered before the last word.
        holding = self._shared.holding and self._requests.quiet
        self._last = holding or not head.keep_alive
        if isinstance(reply, Answer):
            self._outlet.send(reply, self._connection_field(), bodiless=head.is_head)
            self._answered()
            return
        if isinstance(reply, Stream):
            self._last = self._last or head.old
            doing: Any = self._outlet.stream(head, reply, self._connection_field())
        else:
            doing = reply
        self.deadline = math.inf
        self._task = self._loop.create_task(doing)
        self._task.add_done_callback(self._did)

    def _did(self, task: asyncio.Task[Reply | None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:  # the outermost loop of a request
            log.error("request failed", exc_info=error)
            self._transport.abort()
        elif self._phase is ANSWERING:
            assert self._head is not None
            if (reply := task.result()) is None:
                self._answered()
            else:
                self._reply(self._head, reply)
            self._advance()

    def _answered(self) -> None:
        """Read on, or end after the last answer."""
        self._requests.release()
        if self._last:
            self._end()
        else:
            self._rest()

    def _connection_field(self) -> bytes:
        if self._last:
            return answers.CLOSE
        return answers.KEEP if self._head is not None and self._head.old else b""

    def _refuse(self, refusal: Refusal) -> None:
        """Say why; after the last word let the client finish, so that it can read that."""
        self._turn(direct=False)
        self._head, self._fast, self._last = refusal.head, False, refusal.last
        bodiless = refusal.head is not None and refusal.head.is_head
        self._outlet.send(refusal.answer, self._connection_field(), bodiless=bodiless)
        if refusal.last:
            self._phase = PARTING
            self._transport.write_eof()
        self._due(self._limits.farewell_s if refusal.last else self._limits.stall_s)

    def _part(self, error: RefusedError) -> None:
        self._refuse(self._requests.refuse(error))

    def _end(self) -> None:
        self._phase, self._fast = ENDED, False
        self._due(self._limits.stall_s)
        self._outlet.close()

    def _rest(self) -> None:
        """Wait for the next request."""
        self._phase, self._begun, self._head = READING, None, None
        self._fast = self._requests.quiet and not self._outlet.full
        if not self._outlet.full:
            self._due(self._limits.linger_s if self._shared.holding else self._limits.idle_s)

    def _due(self, seconds: float) -> None:
        self.deadline = self._now() + seconds
        self._shared.watch.arm(self.deadline)
