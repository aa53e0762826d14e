"""The doors of the modules: listening sockets that outlive every worker.

The agent holds them, each worker of a module inherits them, and whichever was told to accept takes
the connections. So a swap or a crash refuses nobody: a connection waits in the queue of the socket.
"""

import contextlib
import logging
import socket
from collections.abc import Mapping
from pathlib import Path

from runtime import files, unixsockets

log = logging.getLogger(__name__)

SOCKET_MODE = 0o660
BACKLOG = 512
LOCALHOST = "127.0.0.1"


class Listeners:
    """Every module's sockets: `{directory}/{module}.sock`, and a localhost port if one is set."""

    def __init__(self, directory: Path, ports: Mapping[str, int]) -> None:
        """Make the directory; `ports` maps module names to TCP ports on 127.0.0.1."""
        self._directory = files.make_directory(directory, mode=0o750)
        self._ports = ports
        self._open: dict[str, tuple[socket.socket, ...]] = {}
        self._troubles: dict[str, str] = {}

    def open(self, module: str) -> tuple[socket.socket, ...]:
        """Return a module's listening sockets; they stay open until `close`.

        Raises OSError if the Unix socket cannot be made. A port that is taken is a trouble, not an
        error: the Unix socket serves all the same.
        """
        if module not in self._open:
            sockets = [unixsockets.listen(self.path(module), mode=SOCKET_MODE, backlog=BACKLOG)]
            if (port := self._ports.get(module)) is not None:
                sockets += self._listen_tcp(module, port)
            self._open[module] = tuple(sockets)
        return self._open[module]

    def path(self, module: str) -> Path:
        """Return where a module's Unix socket is."""
        return self._directory / f"{module}.sock"

    def troubles(self) -> list[str]:
        """Return why modules do not have the port that they should have; any thread may ask."""
        return list(self._troubles.values())

    def close(self, module: str) -> None:
        """Close a module's sockets; whoever connects from now on is refused."""
        self._troubles.pop(module, None)
        for listener in self._open.pop(module, ()):
            listener.close()
        with contextlib.suppress(FileNotFoundError):
            self.path(module).unlink()

    def close_all(self) -> None:
        """Close everything: the agent ends."""
        for module in list(self._open):
            self.close(module)

    def _listen_tcp(self, module: str, port: int) -> list[socket.socket]:
        try:
            return [socket.create_server((LOCALHOST, port), backlog=BACKLOG)]
        except OSError as error:
            text = f"http.{module}: {LOCALHOST}:{port}: {error.strerror}: choose another port"
            log.warning("port cannot be had", extra={"module_name": module, "reason": text})
            self._troubles[module] = text
            return []
