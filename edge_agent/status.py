"""Answers `packhorse-agent status`: one JSON line for each connection to `{data}/run/agent.sock`.

A socket and not a file: an idle agent writes nothing to the disk.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_agent.errors import NotRunningError
from edge_agent.workers import listeners
from runtime import unixsockets
from runtime.errors import InvalidError
from runtime.messages import Reported

log = logging.getLogger(__name__)

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
    """Tells whoever connects; in a thread of its own."""

    def __init__(self, directory: Path, compose: Callable[[], Status]) -> None:
        """Listen in `directory`; `compose` is called for each question."""
        self._compose, self._path = compose, directory / SOCKET_NAME
        self._listener = unixsockets.listen(
            self._path, mode=listeners.SOCKET_MODE, backlog=listeners.BACKLOG
        )
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT_S)
        self._listener.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _run(self) -> None:
        while True:
            try:
                asker, _ = self._listener.accept()
            except OSError:
                return
            with asker:
                self._answer(asker)

    def _answer(self, asker: socket.socket) -> None:
        asker.settimeout(TIMEOUT_S)
        try:
            asker.sendall(msgspec.json.encode(self._compose()) + b"\n")
        except OSError:
            log.debug("status not told")
        except Exception:  # the outermost loop: a question must not end the thread
            log.exception("status failed")


def ask(run_directory: Path) -> Status:
    """Return what the agent at work says; raise NotRunningError if there is none."""
    path = run_directory / SOCKET_NAME
    answer = bytearray()
    try:
        with unixsockets.connect(path, timeout_s=TIMEOUT_S) as asking:
            while (data := asking.recv(65_536)) and len(answer) < MAX_BYTES:
                answer += data
        return msgspec.json.decode(answer, type=Status)
    except OSError as error:
        raise NotRunningError(f"no agent answers at {path}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise InvalidError(str(path), bytes(answer[:80]), f"is it an agent? ({error})") from error
