"""Traffic from one client with many connections, kept open, that tries nothing twice."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator

import aiohttp

from tests.support.commands import eventually

INFER = "/v2/models/echo/infer"


class Load:
    """POSTs to a gateway, from a thread of its own."""

    def __init__(self, url: str, *, connections: int = 16, fresh: bool = False) -> None:
        """Send nothing yet. `fresh`: a new connection for each request."""
        self._url, self._connections, self._fresh = url + INFER, connections, fresh
        self.revisions: Counter[str] = Counter()
        """Answers by revision."""
        self.failures: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @contextlib.contextmanager
    def running(self) -> Iterator["Load"]:
        """Ask while the block runs, and to the last answer."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            self._thread.join(60)

    @property
    def answers(self) -> int:
        """How many requests are answered."""
        return self.revisions.total()

    def await_answers(self, more: int) -> None:
        """Wait until so many more are answered."""
        wanted = self.answers + more
        eventually(lambda: self.answers >= wanted or bool(self.failures), f"{wanted} answers")

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, force_close=self._fresh)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(self._ask(session) for _ in range(self._connections)))

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        while not self._stopping.is_set():
            try:
                async with session.post(self._url, data=b"{}") as answer:
                    body = await answer.read()
            except (aiohttp.ClientError, OSError) as error:
                self.failures.append(repr(error))
                continue
            if answer.status != 200:
                self.failures.append(f"{answer.status} {body[:200]!r}")
            else:
                self.revisions[answer.headers["X-Packhorse-Revision"]] += 1
