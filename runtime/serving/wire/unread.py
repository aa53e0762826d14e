"""Whether a client has sent what this process has not seen: then its connection is not idle."""

import asyncio
import os
import socket

AGAIN_S = 0.1
"""Until a connection is looked at again that was to be closed, and has bytes in it."""


def waits(transport: asyncio.BaseTransport) -> bool:
    """Say whether bytes wait in a transport's socket."""
    shared = transport.get_extra_info("socket")
    if shared is None or shared.fileno() < 0:
        return False
    with socket.socket(fileno=os.dup(shared.fileno())) as peeking:
        try:
            return bool(peeking.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False
