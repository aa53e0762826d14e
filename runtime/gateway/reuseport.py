"""Several gateways on one port: how one that leaves sends new connections to the others.

With SO_REUSEPORT each process has a queue of its own, and the kernel throws away the connections in
the queue of one that closes, which fails clients that did nothing wrong. So before it closes, a
gateway tells the kernel to choose another for whatever comes from now on, and empties its queue by
going on to accept.

The kernel numbers the sockets of a port as they came, and a filter of one instruction names the
number that it shall choose; a number that is not there means "as before". Which number is whose is
not told, so it is tried: a connection to ourselves shows where it ended.
"""

import asyncio
import ctypes
import logging
import socket
import struct
from collections.abc import Callable

log = logging.getLogger(__name__)

SO_ATTACH_REUSEPORT_CBPF = 51
SO_DETACH_REUSEPORT_BPF = 68
_RETURN = 0x06
"""BPF_RET | BPF_K: the only instruction."""
TRIED_MOST = 4
"""Numbers that are tried."""
PROBE_S = 0.1
"""Long enough for this process to accept what came to it."""


def choose(listener: socket.socket, number: int) -> None:
    """Send new connections of this socket's port to the socket of a number. Raises OSError."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, number))
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)


def choose_any(listener: socket.socket) -> None:
    """Undo `choose`. Raises OSError."""
    listener.setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, struct.pack("i", 0))


async def send_elsewhere(
    listener: socket.socket, came_here: Callable[[tuple[str, int]], bool]
) -> bool:
    """Let other processes have this port's new connections; return False if there are none.

    `came_here` tells whether a connection from that address was accepted by this process.
    """
    for number in range(TRIED_MOST):
        try:
            choose(listener, number)
            # It waits for nobody: the kernel completes it before anyone accepts.
            probe = socket.create_connection(_reachable(listener), timeout=1.0)
        except OSError as error:
            log.info("no connections sent elsewhere", extra={"error": str(error)})
            return False
        with probe:
            await asyncio.sleep(PROBE_S)
            if not came_here(probe.getsockname()[:2]):
                return True
    choose_any(listener)
    return False


def _reachable(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - looked up
