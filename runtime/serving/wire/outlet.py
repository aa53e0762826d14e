"""The way out to one client: answers go here, and whether the client takes them is known here."""

import asyncio
import contextlib
from typing import Any

from runtime.serving.wire import answers
from runtime.serving.wire.answers import Answer, Stream
from runtime.serving.wire.head import Head


class Outlet:
    """Writes to a transport."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._taken: asyncio.Event | None = None
        """Set once the client takes its answers again; None: it does."""
        self._unsent = 0

    @property
    def full(self) -> bool:
        """Say whether the client does not take its answers."""
        return self._taken is not None

    def pause(self) -> None:
        """Hear from the transport that it holds enough."""
        self._taken = asyncio.Event()
        self._unsent = self._transport.get_write_buffer_size()

    def resume(self) -> None:
        """Hear from the transport that it wants more."""
        if self._taken is not None:
            self._taken.set()
        self._taken = None

    def stuck(self) -> bool:
        """Say whether the client has taken nothing since this was asked last."""
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        return self._unsent >= before > 0

    def close(self) -> None:
        """Close once the client has taken what was written."""
        self._unsent = self._transport.get_write_buffer_size() + 1
        self._transport.close()

    def send(self, answer: Answer, connection: bytes, *, bodiless: bool = False) -> None:
        """Write an answer; `connection` is a header line, or empty."""
        pieces = answers.render(answer, connection, bodiless=bodiless)
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)

    async def stream(self, head: Head, stream: Stream, connection: bytes) -> None:
        """Write an answer as its pieces come and the client takes them."""
        chunked = not head.old
        write = self._transport.write
        write(answers.stream_head(stream, connection, chunked=chunked))
        async with contextlib.aclosing(stream.pieces) as pieces:
            async for piece in pieces:
                if head.is_head:
                    return
                write(answers.chunk(piece) if chunked else piece)
                if self._taken is not None:
                    await self._taken.wait()
        if chunked:
            write(answers.LAST_CHUNK)
