"""What a client streams, held so that it can be sent again until an answer has begun."""

import asyncio
from collections.abc import AsyncIterator

from runtime.gateway.errors import GatewayError

AHEAD_MOST = 16
"""Messages read from the client before a replica takes them."""


class TooLargeError(GatewayError):
    """A message, or all that would have to be held, is above the limit."""


class Replay:
    """The messages of one client's stream."""

    def __init__(self, source: AsyncIterator[bytes], most_bytes: int) -> None:
        """Read nothing yet."""
        self._source, self._most_bytes = source, most_bytes
        self._held: list[bytes] = []
        self._bytes = 0
        self._first = 0
        """Number of the first message that is held."""
        self._taken = 0
        """Messages that some replica has taken."""
        self._keeping = True
        self._ended = False
        self._error: TooLargeError | None = None
        self._changed = asyncio.Condition()

    async def pump(self) -> None:
        """Read the client's stream to its end."""
        async for message in self._source:
            async with self._changed:
                if len(message) + self._bytes > self._most_bytes:
                    text = f"the messages are too large: send at most {self._most_bytes} bytes"
                    self._error = TooLargeError(text)
                    break
                self._held.append(message)
                self._bytes += len(message)
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._ahead < AHEAD_MOST)
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def begun(self) -> None:
        """Return when there is a message, or the client has ended without one."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._held) or self._ended)
        self._require_sane()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield all messages from the first; only one at a time may be iterated."""
        number = self._first
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: number < self._end or self._ended)  # noqa: B023 - awaited here
                if number >= self._end:
                    self._require_sane()
                    return
                message = self._held[number - self._first]
                number += 1
                self._taken = max(self._taken, number)
                self._drop()
                self._changed.notify_all()
            yield message

    def forget(self) -> None:
        """Hold nothing any longer that was taken: an answer has begun."""
        self._keeping = False
        self._drop()

    @property
    def _end(self) -> int:
        return self._first + len(self._held)

    @property
    def _ahead(self) -> int:
        return self._end - self._taken

    def _drop(self) -> None:
        if not self._keeping:
            gone = self._taken - self._first
            self._bytes -= sum(map(len, self._held[:gone]))
            del self._held[:gone]
            self._first = self._taken

    def _require_sane(self) -> None:
        if self._error is not None:
            raise self._error
