"""An engine's socket on another machine as a socket of ours, forwarded by OpenSSH.

ssh://user@host:22[/SOCKET]  ──►  ssh -N -L DIRECTORY/docker.sock:SOCKET host  ──►  unix://…

The socket there is Docker's usual one, unless the URL names another (of a rootless engine, of
Podman).
"""

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from runtime.containers.errors import EngineUnreachableError
from runtime.errors import InvalidError

REMOTE_SOCKET = "/var/run/docker.sock"
HOW = "write ssh://[USER@]HOST[:PORT][/PATH/OF/THE/SOCKET]"
PATIENCE_S = 20.0
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
"""Never the beginning of an option."""
_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")
"""Of a socket there; a colon would end it."""


class Tunnel:
    """A running forwarder; `url` is where it can be reached until `close`."""

    def __init__(self, url: str) -> None:
        """Start it; raises InvalidError for what is no host, EngineUnreachableError if it fails."""
        argv, remote = command(url), remote_socket(url)
        self._directory = Path(tempfile.mkdtemp(prefix="packhorse-ssh-"))
        self._socket = self._directory / "docker.sock"
        try:
            with (self._directory / "said").open("wb") as said:
                self._child = subprocess.Popen(
                    [argv[0], "-L", f"{self._socket}:{remote}", *argv[1:]],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                )
        except OSError as error:
            shutil.rmtree(self._directory)
            raise EngineUnreachableError(f"{url}: ssh cannot be started: {error}") from error
        self._wait(url)

    @property
    def url(self) -> str:
        """Where the engine can be reached."""
        return f"unix://{self._socket}"

    def close(self) -> None:
        """End it."""
        self._child.terminate()
        self._child.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _wait(self, url: str) -> None:
        deadline, tick = time.monotonic() + PATIENCE_S, threading.Event()
        while not self._socket.exists():
            if self._child.poll() is not None or time.monotonic() > deadline:
                said = (self._directory / "said").read_text(errors="replace").strip()
                self.close()
                raise EngineUnreachableError(f"{url}: ssh: {said[-300:] or 'no answer in time'}")
            tick.wait(0.05)


def remote_socket(url: str) -> str:
    """Return the path of the engine's socket over there; raises InvalidError."""
    path = urlsplit(url).path.rstrip("/")
    if path and _PATH.fullmatch(path) is None:
        raise InvalidError("docker host", url, HOW)
    return path or REMOTE_SOCKET


def command(url: str) -> list[str]:
    """Return how ssh is called for a URL, without the sockets; raises InvalidError."""
    parts = urlsplit(url)
    user, host = parts.username, parts.hostname
    named = [name for name in (user, host) if name is not None]
    if host is None or not all(map(_PLAIN.fullmatch, named)):
        raise InvalidError("docker host", url, HOW)
    options = ("BatchMode=yes", "ExitOnForwardFailure=yes", "ServerAliveInterval=15")
    return [
        shutil.which("ssh") or os.fspath("ssh"),
        *(word for option in options for word in ("-o", option)),
        "-N",
        *(("-p", str(parts.port)) if parts.port else ()),
        *(("-l", user) if user else ()),
        "--",
        host,
    ]
