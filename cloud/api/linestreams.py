"""Lines of a service's replicas as server-sent events, as they are written.

Targets give lines by an iterator that blocks, so each reader has a thread. What a reader does not
take in time is not kept for it: the thread waits, and with it the target's stream.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cloud import shapes
from cloud.api.streams import HEARTBEAT_S, LOOK_S, MEDIA_TYPE, SLOW_S
from cloud.errors import BusyError
from cloud.hosting.errors import TargetError
from cloud.hosting.targets import LogLine
from cloud.services import Services

log = logging.getLogger(__name__)

MAX_READERS = 32
LINGERING = 4
"""Threads for each reader: one whose reader has left ends with the next line, if not before."""
AHEAD = 200
"""Lines that are read before the reader takes them."""
TOGETHER = 100


class LineStreams:
    """Who follows lines now: so many, and no more."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._most = min(MAX_READERS, services.settings.max_streams)
        self._lock = threading.Lock()
        self._readers = 0
        self._threads = 0

    def follow(self, lines: Callable[[], Iterator[LogLine]]) -> "LineStream":
        """Return an answer that goes on until either side ends it.

        Raises BusyError if there are as many as there may be. Call it in the event loop.
        """
        with self._lock:
            if self._readers >= self._most or self._threads >= LINGERING * self._most:
                raise BusyError(f"logs: {self._most} readers follow them, and no more may")
            self._readers += 1
            self._threads += 1
        return LineStream(self, lines)

    def left(self) -> None:
        """Note that a reader is gone."""
        with self._lock:
            self._readers -= 1

    def ended(self) -> None:
        """Note that a reader's thread is gone."""
        with self._lock:
            self._threads -= 1


class LineStream(Response):
    """One reader."""

    media_type = MEDIA_TYPE

    def __init__(self, streams: LineStreams, lines: Callable[[], Iterator[LogLine]]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._streams, self._lines = streams, lines
        self._loop = asyncio.get_running_loop()
        self._read: asyncio.Queue[LogLine | str | None] = asyncio.Queue(AHEAD)
        self._gone = threading.Event()
        self._source: Iterator[LogLine] | None = None

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader goes, is too slow, the lines end, or the registry does."""
        threading.Thread(target=self._fetch, name="logs", daemon=True).start()
        talking = asyncio.create_task(self._talk(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({talking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if talking.done():
                talking.result()
        except TimeoutError:
            log.info("reader of logs cut off: too slow")
        finally:
            self._gone.set()
            self._streams.left()
            if self._source is not None:
                _close(self._source)
            for task in (talking, leaving):
                task.cancel()
            await asyncio.gather(talking, leaving, return_exceptions=True)

    def _fetch(self) -> None:
        """Read lines in a thread of its own; ends with the lines, or soon after the reader."""
        try:
            self._source = self._lines()
            try:
                for line in self._source:
                    if self._gone.is_set() or not self._hand_over(line):
                        return
            finally:
                _close(self._source)
            self._hand_over(None)
        except TargetError as error:
            self._hand_over(str(error))
        except Exception:
            if self._gone.is_set():  # the source is closed while it is read
                return
            log.exception("logs broke off")
            self._hand_over("a bug: the registry's log says more")
        finally:
            self._streams.ended()

    def _hand_over(self, line: LogLine | str | None) -> bool:
        """Wait until the reader has room; say whether it is still there."""
        with contextlib.suppress(RuntimeError):  # its loop has ended
            waiting = asyncio.run_coroutine_threadsafe(self._read.put(line), self._loop)
            while not self._gone.is_set():
                with contextlib.suppress(TimeoutError):
                    waiting.result(LOOK_S)
                    return True
            waiting.cancel()
        return False

    async def _talk(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await asyncio.wait_for(send(start), SLOW_S)
        await self._send(send, ": lines\n\n")
        stopping, quiet_s = self._streams.services.stopping, 0.0
        while not stopping.is_set():
            try:
                first = await asyncio.wait_for(self._read.get(), LOOK_S)
            except TimeoutError:
                quiet_s += LOOK_S
                if quiet_s >= HEARTBEAT_S:
                    quiet_s = 0.0
                    await self._send(send, ": heartbeat\n\n")
                continue
            quiet_s = 0.0
            if not await self._send_some(send, first):
                break
        await self._send(send, "", more=False)

    async def _send_some(self, send: Send, first: LogLine | str | None) -> bool:
        """Send what has come by now; say whether there may be more."""
        found, text = [first], ""
        while len(found) < TOGETHER and not self._read.empty():
            found.append(self._read.get_nowait())
        for line in found:
            match line:
                case LogLine():
                    text += f"data: {shapes.ServiceLine(**vars(line)).model_dump_json()}\n\n"
                case str():
                    text += f"event: trouble\ndata: {line.splitlines()[0] if line else ''}\n\n"
        if text:
            await self._send(send, text)
        return all(isinstance(line, LogLine) for line in found)

    async def _send(self, send: Send, text: str, *, more: bool = True) -> None:
        body = {"type": "http.response.body", "body": text.encode(), "more_body": more}
        await asyncio.wait_for(send(body), SLOW_S)


def _close(lines: Iterator[LogLine]) -> None:
    """End lines. A generator that waits for one just now cannot be; it ends with that line."""
    close = getattr(lines, "close", None)
    if close is not None:
        with contextlib.suppress(ValueError):
            close()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
