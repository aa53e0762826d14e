"""The status as a file, for whoever can read the container's disk but not reach its ports."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from runtime import files
from runtime.gateway.config import Status

log = logging.getLogger(__name__)

EACH_S = 0.5
MODE = 0o644
"""It holds no secrets, and who reads it need not be who writes it."""


class StatusFile:
    """Writes the status whenever it has changed, but not more often than each EACH_S."""

    def __init__(self, path: Path, status: Callable[[], Status]) -> None:
        """Write nothing yet."""
        self._path, self._status = path, status
        self._written = b""
        self._trouble = False

    async def run(self) -> None:
        """Follow the status."""
        while True:
            await self.write()
            await asyncio.sleep(EACH_S)

    async def write(self) -> None:
        """Write the status if it has changed. A disk that does not take it is logged once."""
        data = msgspec.json.encode(self._status())
        if data == self._written:
            return
        try:
            # In a thread: a slow disk must not hold up requests.
            await asyncio.to_thread(files.write_atomic, self._path, data, mode=MODE)
        except OSError as error:
            if not self._trouble:
                facts = {"path": str(self._path), "error": str(error)}
                log.error("status not written", extra=facts)  # noqa: TRY400 - no traceback wanted
            self._trouble = True
        else:
            self._written, self._trouble = data, False
