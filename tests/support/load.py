"""Traffic from one client with many connections, kept open, that tries nothing twice."""

import asyncio
import threading
from collections import Counter

import aiohttp

from tests.support.commands import eventually

INFER = "/v2/models/echo/infer"


class Load:
    """POSTs to some gateways in turn, from a thread of its own."""

    def __init__(self, *urls: str, connections: int = 16) -> None:
        """Send nothing yet."""
        self._urls, self._connections = urls, connections
        self.revisions: Counter[str] = Counter()
        """Answers by revision."""
        self.failures: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Load":
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, with the last answers."""
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
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(self._ask(session, n) for n in range(self._connections)))

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        url = self._urls[number % len(self._urls)] + INFER
        while not self._stopping.is_set():
            try:
                async with session.post(url, data=b"{}") as answer:
                    body = await answer.read()
            except (aiohttp.ClientError, OSError) as error:
                self.failures.append(repr(error))
                continue
            if answer.status != 200:
                self.failures.append(f"{answer.status} {body[:200]!r}")
            else:
                self.revisions[answer.headers["X-Packhorse-Revision"]] += 1
