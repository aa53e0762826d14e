"""Apps for the connection layer of the inference server."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from runtime.serving.wire import answers
from runtime.serving.wire.answers import Answer, Stream
from runtime.serving.wire.app import Reply
from runtime.serving.wire.bodies import Body, HeapBody
from runtime.serving.wire.head import Head


class Echo:
    """Answers by path: /echo with the body, /size with its length, /large, /stream, /wait, /fail.

    /wait is answered once `go` is set; those that were cancelled before are counted.
    """

    LARGE_BYTES = 8_000_000

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.cancelled = 0

    def admit(self, _head: Head) -> None:
        """Refuse nothing."""

    def place(self, head: Head) -> Body:
        """Put bodies into memory."""
        return HeapBody(head.length)

    def answer(self, head: Head, body: bytes | Body) -> Reply | Coroutine[Any, Any, Reply]:
        """Answer."""
        data = body if isinstance(body, bytes) else bytes(body.view)
        replies: dict[bytes, Any] = {
            b"/echo": lambda: answers.json(data),
            b"/size": lambda: answers.json(b"%d" % len(data)),
            b"/later": lambda: self._later(data),
            b"/large": lambda: answers.json(b"x" * self.LARGE_BYTES),
            b"/stream": lambda: Stream(200, answers.JSON, self._pieces()),
            b"/endless": lambda: Stream(200, answers.JSON, self._endless()),
            b"/wait": self._wait,
            b"/fail": self._fail,
        }
        reply: Reply | Coroutine[Any, Any, Reply] = replies[head.target]()
        return reply

    async def _later(self, data: bytes) -> Answer:
        await asyncio.sleep(0)
        return answers.json(data)

    async def _wait(self) -> Answer:
        self.began.set()
        try:
            await asyncio.to_thread(self.go.wait)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return answers.json(b"{}")

    async def _fail(self) -> Answer:
        raise ZeroDivisionError

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        for number in range(3):
            await asyncio.sleep(0)
            yield b"piece %d;" % number

    async def _endless(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                await asyncio.sleep(0)
                yield b"x" * 100_000
        finally:
            self.cancelled += 1
