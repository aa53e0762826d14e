"""Traffic from one client with many connections, kept open, that tries nothing twice."""

import asyncio
import contextlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.commands import Command, eventually

RPC_LOAD = Path(__file__).with_name("rpc_load_process.py")
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


class RpcLoad(Command):
    """gRPC traffic, from a process of its own."""

    def __init__(self, place: Path, address: str, kind: str = "kept") -> None:
        """Ask at an address: on "kept" connections, or on a "fresh" one each time."""
        super().__init__("python", [], place / f"load-{kind}.log")
        self._argv = [sys.executable, str(RPC_LOAD), address, kind]

    def told(self) -> dict[str, Any]:
        """Return `answers`, `failures` and `kinds` of answers so far."""
        lines = self.tail(100_000).splitlines()[-2:-1] or ['{"answers": 0, "failures": []}']
        return dict(json.loads(lines[0]))

    def await_answers(self, more: int) -> None:
        """Wait until so many more are answered."""
        wanted = self.told()["answers"] + more
        eventually(
            lambda: self.told()["answers"] >= wanted or bool(self.told()["failures"]),
            f"{wanted} answers",
        )
