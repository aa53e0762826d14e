"""Server-sent events: the history as it is written, to whoever follows it.

The database is the only buffer: each reader is sent what comes after the last id it has, a page at
a time, and is woken by commits. So a reader costs the same whether it is up to date or a million
events behind, and a slow one holds up nobody: it is cut off, and goes on by id when it comes back.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator, Sequence

from anyio import to_thread
from sqlalchemy.exc import OperationalError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cloud import shapes
from cloud.errors import BusyError
from cloud.registry import events
from cloud.registry.events import Filter
from cloud.services import Change, Services

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_S = 15.0
SLOW_S = 10.0
"""A reader that takes nothing for so long is cut off."""
PAGE = 200
PIECE_CHARS = 64 * 1024
GATHER_S = 0.05
"""Commits in quick succession wake a reader once."""
LOOK_S = 0.5
"""How often a reader that waits looks whether the registry ends."""
SWEEP_S = 5.0
"""An event that another process wrote is found after this long."""
_RETRY_MS = 2000


class Streams:
    """Who follows the events, and what wakes them."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._open: set[EventStream] = set()
        services.notifier.subscribe(Change.EVENTS, self._wake)

    def follow(self, wanted: Filter, after: int | None) -> "EventStream":
        """Return an answer that goes on until either side ends it; None: from now on.

        Raises BusyError if there are as many as there may be. Call it in the event loop.
        """
        most = self.services.settings.max_streams
        if len(self._open) >= most:
            raise BusyError(f"events: {most} readers follow them, and no more may (max_streams)")
        stream = EventStream(self, wanted, after)
        self._open.add(stream)
        return stream

    def ended(self, stream: "EventStream") -> None:
        """Forget a reader."""
        self._open.discard(stream)

    def _wake(self) -> None:
        for stream in tuple(self._open):
            stream.wake()


class EventStream(Response):
    """One reader."""

    media_type = MEDIA_TYPE

    def __init__(self, streams: Streams, wanted: Filter, after: int | None) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._streams, self._wanted, self._after = streams, wanted, after
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Tell that there may be something new; from any thread."""
        with contextlib.suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._news.set)

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader goes, is too slow, or the registry ends."""
        talking = asyncio.create_task(self._talk(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({talking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if talking.done():
                talking.result()
        except TimeoutError:
            log.info("reader of events cut off: too slow", extra={"after": self._after})
        finally:
            self._streams.ended(self)
            for task in (talking, leaving):
                task.cancel()
            await asyncio.gather(talking, leaving, return_exceptions=True)

    async def _talk(self, send: Send) -> None:
        # Before the start of the answer: a database that fails is still a problem of its own.
        newest = await to_thread.run_sync(self._newest)
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await asyncio.wait_for(send(start), SLOW_S)
        await self._place(send, newest)
        stopping = self._streams.services.stopping
        quiet_s = 0.0
        while not stopping.is_set():
            self._news.clear()
            found = await self._read()
            if found:
                quiet_s = 0.0
                for piece in _pieces(found):
                    await self._send(send, piece)
                self._after = found[-1].id
                continue
            quiet_s += await self._wait()
            if quiet_s >= HEARTBEAT_S:
                quiet_s = 0.0
                await self._send(send, ": heartbeat\n\n")
        await self._send(send, "", more=False)

    async def _wait(self) -> float:
        """Return after a commit, or SWEEP_S, or when the registry ends: how many seconds later."""
        began = self._loop.time()
        while self._loop.time() < began + SWEEP_S:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_S)
                await asyncio.sleep(GATHER_S)
                break
            if self._streams.services.stopping.is_set():
                break
        return self._loop.time() - began

    async def _place(self, send: Send, newest: int) -> None:
        """Begin where the reader left off, or now.

        A reader that has seen more than there is read from a registry that was later restored from
        a backup. It is told, and goes on from what is there.
        """
        if self._after is None:
            self._after = newest
        elif self._after > newest:
            told = json.dumps({"after": self._after, "newest": newest})
            self._after = newest
            await self._send(send, f"event: reset\nid: {newest}\ndata: {told}\n\n")
        # An id without data: who is cut off before the first event goes on from here all the same.
        await self._send(send, f"retry: {_RETRY_MS}\nid: {self._after}\n\n")

    async def _read(self) -> Sequence[shapes.Event]:
        try:
            return await to_thread.run_sync(self._page)
        except OperationalError as error:  # busy: the next look finds it
            log.warning("events cannot be read", extra={"why": str(error.orig)})
            return []

    def _page(self) -> list[shapes.Event]:
        with self._streams.services.reading() as session:
            rows = events.page(session, self._wanted, after=self._after or 0, limit=PAGE)
            return [shapes.Event.model_validate(row.model_dump()) for row in rows]

    def _newest(self) -> int:
        with self._streams.services.reading() as session:
            return events.newest(session)

    async def _send(self, send: Send, text: str, *, more: bool = True) -> None:
        body = {"type": "http.response.body", "body": text.encode(), "more_body": more}
        await asyncio.wait_for(send(body), SLOW_S)


def _pieces(found: Sequence[shapes.Event]) -> Iterator[str]:
    """Yield the events as text in pieces of about PIECE_CHARS: no more waits in any buffer."""
    piece = ""
    for event in found:
        piece += _written(event)
        if len(piece) >= PIECE_CHARS:
            yield piece
            piece = ""
    if piece:
        yield piece


def _written(event: shapes.Event) -> str:
    return f"id: {event.id}\ndata: {event.model_dump_json()}\n\n"


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
