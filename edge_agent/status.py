"""Answers `packhorse-agent status`: one JSON line for each connection to `{data}/run/agent.sock`.

A socket and not a file: an idle agent writes nothing to the disk.
"""

import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_agent.errors import NotRunningError
from edge_agent.localserver import LocalServer
from edge_agent.workers import listeners
from runtime import unixsockets
from runtime.errors import InvalidError
from runtime.messages import Reported

SOCKET_NAME = "agent.sock"
TIMEOUT_S = 5.0
MAX_BYTES = 4 * 1024 * 1024


class Status(msgspec.Struct, frozen=True):
    """What an agent says of itself."""

    pid: int
    connected: bool
    link: str
    """Why it is not connected, if it is not."""
    reported: Reported


class StatusServer:
    """Tells whoever connects."""

    def __init__(self, directory: Path, compose: Callable[[], Status]) -> None:
        """Listen in `directory`; `compose` is called for each question."""
        self._compose = compose
        self._server = LocalServer(
            directory / SOCKET_NAME, self._answer, name="status", mode=listeners.SOCKET_MODE
        )

    def start(self) -> None:
        """Begin."""
        self._server.start()

    def stop(self) -> None:
        """End."""
        self._server.stop(TIMEOUT_S)

    def _answer(self, asker: socket.socket) -> None:
        asker.settimeout(TIMEOUT_S)
        asker.sendall(msgspec.json.encode(self._compose()) + b"\n")


def ask(run_directory: Path) -> Status:
    """Return what the agent at work says; raise NotRunningError if there is none.

    Raises PermissionError for who may not ask.
    """
    path = run_directory / SOCKET_NAME
    answer = bytearray()
    try:
        with unixsockets.connect(path, timeout_s=TIMEOUT_S) as asking:
            while (data := asking.recv(65_536)) and len(answer) < MAX_BYTES:
                answer += data
        return msgspec.json.decode(answer, type=Status)
    except PermissionError as error:  # it may well run
        raise PermissionError(error.errno, error.strerror, str(path)) from error
    except OSError as error:
        raise NotRunningError(f"no agent answers at {path}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        if len(answer) < MAX_BYTES and not answer.endswith(b"\n"):
            text = f"the agent at {path} ended while it answered"
            raise NotRunningError(text) from error
        raise InvalidError(str(path), bytes(answer[:80]), f"is it an agent? ({error})") from error
