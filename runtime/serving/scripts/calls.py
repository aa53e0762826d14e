"""A call to a script's process while it is under way, and how it ends if the process does."""

import queue
import socket

from runtime.inference.tensors import Arrays


class EndedError(Exception):
    """The process ended during a call; whoever made the call decides what that means."""

    def __init__(self, text: str, *, others: int) -> None:
        super().__init__(text)
        self.others = others
        """How many calls were under way beside this one, any of which may have been the cause."""


class Pending:
    """A call under way."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        """Which process it was given to."""
        self.news: queue.SimpleQueue[Arrays | Exception | None] = queue.SimpleQueue()
