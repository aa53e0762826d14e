"""A Unix socket that answers one caller after the other, in a thread of its own."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from edge_agent.workers import listeners
from runtime import unixsockets

log = logging.getLogger(__name__)


class LocalServer:
    """Listens from its making on; serves between `start` and `stop`."""

    def __init__(
        self, path: Path, serve: Callable[[socket.socket], None], *, name: str, mode: int
    ) -> None:
        """Hand every caller to `serve`, whose socket is closed when it returns."""
        self._path, self._serve = path, serve
        self._listener = unixsockets.listen(path, mode=mode, backlog=listeners.BACKLOG)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End; a caller that is not served by then is left."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout_s)
        self._listener.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _run(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            with caller:
                try:
                    self._serve(caller)
                except OSError as error:
                    log.info("caller is gone", extra={"reason": str(error)})
                except Exception:  # the outermost loop: a caller must not end the thread
                    log.exception("caller not served", extra={"socket": self._path.name})
