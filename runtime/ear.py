"""Hears what paho tells its log: why a socket failed, which it says nowhere else.

As its `on_log` would, but what it says of each packet is not put into words that nobody reads.
"""

import logging
from collections.abc import Callable
from typing import Any


class Ear(logging.Logger):
    """A logger that tells errors to one connection, and nothing to anybody else."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Have `tell` called with the text of each error."""
        super().__init__("paho", logging.ERROR)
        self._tell = tell

    def log(self, level: int, msg: object, *args: object, **_more: Any) -> None:
        """Tell an error."""
        if level >= logging.ERROR:
            self._tell(str(msg) % args)
