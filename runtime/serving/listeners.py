"""The sockets of a server, made before anything else, so that a taken port is known at once."""

import os
import socket
from pathlib import Path

from runtime.errors import InvalidError
from runtime.serving.server import BACKLOG

UDS_MODE = 0o660
"""Owner and group; the directory says who else may come near."""


def tcp(host: str, port: int, field: str) -> socket.socket:
    """Return a socket that listens there; raise InvalidError if it cannot."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidError("--host", host, f"{error.strerror}: name an address here") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        fix = f"{os.strerror(error.errno or 0)}: choose another, or stop who has it"
        raise InvalidError(field, f"{host}:{port}", fix) from error
    return listener


def uds(path: Path) -> socket.socket:
    """Return a socket that listens at a path; raise InvalidError if it cannot."""
    from runtime import unixsockets  # noqa: PLC0415 - it brings an HTTP client

    try:
        return unixsockets.listen(path.absolute(), mode=UDS_MODE, backlog=BACKLOG)
    except OSError as error:
        fix = f"{error.strerror}: name a path in a directory that you may write to"
        raise InvalidError("--uds", str(path), fix) from error


def url(listener: socket.socket) -> str:
    """Return where clients find a TCP socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
