"""What a person may tell an agent at work: `{data}/run/control.sock`, for its own user and root.

One line of JSON with an open file attached goes in, one line comes out. The file itself is handed
over, not its name: the agent may not be allowed to look where the person keeps it.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from edge_agent.errors import ControlError, NotRunningError
from edge_agent.localserver import LocalServer
from edge_agent.mind.events import HandApplied
from runtime import unixsockets
from runtime.errors import PackhorseError

log = logging.getLogger(__name__)

SOCKET_NAME = "control.sock"
SOCKET_MODE = 0o600
MAX_BYTES = 64 * 1024
HEAR_S = 5.0
"""How long a question may take to arrive."""
ANSWER_S = 3600.0
"""How long storing a large file may take."""
_FDS = 1


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to apply of the file that comes with it."""

    module: str | None = None
    version: str | None = None
    """MODEL or MODEL:NUMBER; None: the only one."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was taken over, or why nothing was."""

    applied: HandApplied | None = None
    error: str = ""
    running: bool = True
    """An agent is at work on it; False: the next start will be."""


class ControlServer:
    """Listens, one caller after the other."""

    def __init__(self, directory: Path, obey: Callable[[Wish, BinaryIO], HandApplied]) -> None:
        """Listen in `directory`; `obey` returns once it is durable, or raises PackhorseError."""
        self._obey = obey
        self._server = LocalServer(
            directory / SOCKET_NAME, self._serve, name="control", mode=SOCKET_MODE
        )

    def start(self) -> None:
        """Begin."""
        self._server.start()

    def stop(self, timeout_s: float) -> None:
        """End; a file that is being stored is left half stored, and the caller not answered."""
        self._server.stop(timeout_s)

    def _serve(self, caller: socket.socket) -> None:
        caller.settimeout(HEAR_S)
        caller.sendall(msgspec.json.encode(self._answer(caller)) + b"\n")

    def _answer(self, caller: socket.socket) -> Answer:
        with contextlib.ExitStack() as opened:
            data, handles = _receive(caller, opened)
            try:
                wish = msgspec.json.decode(data, type=Wish)
                if len(handles) != _FDS:
                    return Answer(error="control: send one file with the question")
                with os.fdopen(handles[0], "rb", closefd=False) as stream:
                    return Answer(applied=self._obey(wish, stream))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                return Answer(error=f"control: {error}")
            except (PackhorseError, OSError) as error:
                log.warning("not applied", extra={"reason": str(error)})
                return Answer(error=str(error))


def _receive(caller: socket.socket, opened: contextlib.ExitStack) -> tuple[bytes, list[int]]:
    """Return a line and the files that came with it, which `opened` closes in any case.

    Raises OSError if the caller is slow or gone.
    """
    data = b""
    handles: list[int] = []
    while not data.endswith(b"\n") and len(data) < MAX_BYTES and len(handles) <= _FDS:
        part, more, _flags, _address = socket.recv_fds(caller, MAX_BYTES - len(data), _FDS)
        for handle in more:
            opened.callback(os.close, handle)
            handles.append(handle)
        if not part:
            break
        data += part
    return data, handles


def ask(run_directory: Path, wish: Wish, file: int) -> Answer:
    """Return what the agent at work made of a wish for an open file.

    Raises NotRunningError if there is none, ControlError if it refuses or ends before it answers.
    """
    path = run_directory / SOCKET_NAME
    try:
        asking = unixsockets.connect(path, timeout_s=ANSWER_S)
    except PermissionError as error:
        raise ControlError(f"{path}: only root and the agent's own user may do this") from error
    except OSError as error:
        raise NotRunningError(f"no agent answers at {path}: {error.strerror or error}") from error
    data = bytearray()
    with asking:
        try:
            socket.send_fds(asking, [msgspec.json.encode(wish) + b"\n"], [file])
            while (part := asking.recv(MAX_BYTES)) and len(data) < MAX_BYTES:
                data += part
            answer = msgspec.json.decode(data, type=Answer)
        except (OSError, msgspec.DecodeError) as error:
            raise ControlError(f"the agent did not answer ({error}): try again") from error
    if answer.applied is None:
        raise ControlError(answer.error)
    return answer
