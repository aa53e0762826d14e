"""What stands between the connection layer and whoever answers."""

from collections.abc import Coroutine
from typing import Any, Protocol

from runtime.serving.wire.answers import Answer, Stream
from runtime.serving.wire.bodies import Body
from runtime.serving.wire.head import Head

Reply = Answer | Stream


class App(Protocol):
    """Answers requests. Nothing that it is asked may raise."""

    def admit(self, head: Head) -> Answer | None:
        """Return a refusal for which no byte of the body need be read, or None."""
        ...

    def place(self, head: Head) -> Body:
        """Return where the body of `head.length` bytes shall be put; it is large."""
        ...

    def answer(self, head: Head, body: bytes | Body) -> Reply | Coroutine[Any, Any, Reply]:
        """Return the answer to a request that is whole, or what will give it.

        It is cancelled when the client goes away.
        """
        ...
