"""Unix sockets at paths of any length, and HTTP over them.

The kernel takes at most 107 bytes as the address of a Unix socket. A longer path is reached through
an open handle of its directory (proc(5), /proc/self/fd), so a data directory may lie anywhere.
"""

import contextlib
import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

MAX_ADDRESS_BYTES = 107


def listen(path: Path, *, mode: int, backlog: int) -> socket.socket:
    """Return a socket that listens at `path`, in place of whatever a dead process left there.

    It is made under another name, so that at its own name it listens from the first moment. Raises
    OSError if it cannot be made.
    """
    fresh = path.with_name(f"{path.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(fresh) as address:
            listener.bind(address)
        fresh.chmod(mode)
        listener.listen(backlog)
        fresh.replace(path)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(path: Path, *, timeout_s: float | None) -> socket.socket:
    """Return a socket connected to whoever listens at `path`; raise OSError if nobody does."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(timeout_s)
        with _address(path) as address:
            connected.connect(address)
    except BaseException:
        connected.close()
        raise
    return connected


class HTTPConnection(http.client.HTTPConnection):
    """HTTP to the server that listens at a path."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        """Prepare; each operation may take `timeout_s` seconds."""
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the path; the host name in requests means nothing."""
        self.sock = connect(self._path, timeout_s=self.timeout)


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    if len(os.fsencode(path)) <= MAX_ADDRESS_BYTES:
        yield str(path)
        return
    handle = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)
