"""Keeps the configuration in force the one that its file holds.

The file is looked at, not watched: it may be replaced, written over, or reached through links that
are turned to another directory at once, as Kubernetes does with what it mounts. What tells a change
is which file it is now, its size and its time.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from runtime.errors import InvalidError
from runtime.gateway import config as configs
from runtime.gateway.config import Config

log = logging.getLogger(__name__)

LOOK_S = 0.25
Seen = tuple[int, int, int, int]


class Reloader:
    """Reads the file and applies what is in it; `trouble` says why it did not, "" if it did."""

    def __init__(self, path: Path, apply: Callable[[Config], None]) -> None:
        """Read nothing yet."""
        self._path, self._apply = path, apply
        self._seen: Seen | None = None
        self._wake = asyncio.Event()
        self.trouble = f"{path} has not been read yet"
        self.generation = 0
        self.applied = 0
        """Configurations put in force so far."""
        self.failed = 0
        """Configurations that could not be."""

    def look(self) -> None:
        """Read the file if it is another one now."""
        try:
            seen = self._stamp()
            if seen == self._seen:
                return
            # Before the reading: a change in between is then seen next time.
            self._seen = seen
            data = self._path.read_bytes()
        except OSError as error:
            self._seen = None
            self._refuse(f"{self._path} cannot be read: {error.strerror}")
            return
        try:
            config = configs.decode(data)
        except InvalidError as error:
            self._refuse(str(error))
            return
        self._apply(config)
        self.applied += 1
        self.trouble, self.generation = "", config.generation
        facts = {"service": config.service, "generation": config.generation}
        log.info("configuration in force", extra=facts)

    def again(self) -> None:
        """Read the file now, whether or not it has changed."""
        self._seen = None
        self._wake.set()

    async def run(self) -> None:
        """Follow the file."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            wake = loop.call_later(LOOK_S, self._wake.set)
            await self._wake.wait()
            wake.cancel()
            self.look()

    def _stamp(self) -> Seen:
        found = self._path.stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _refuse(self, trouble: str) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        self.failed += 1
        log.error("configuration not in force", extra={"trouble": trouble})
