"""`python -m runtime.serving.codec FD`: reads and writes large JSON for a server.

One job at a time, until the server closes its end of the socket, or is no more.
"""

import contextlib
import os
import resource
import signal
import socket
import sys

import msgspec

from runtime.serving.codec import work
from runtime.serving.codec.frames import MAX_PACKET_BYTES, Done, Job, Refused
from runtime.serving.codec.reading import Reader

MAX_DATA_BYTES = 2 << 30
"""Of this process: a body that needs more is refused, and the machine goes on."""
_DECODER = msgspec.msgpack.Decoder(Job)


def main(control: socket.socket) -> None:
    """Serve the other end of a socket."""
    reader = Reader()
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, MAX_PACKET_BYTES, 1)
        if not packet:
            return
        try:
            answer(control, work.do(_DECODER.decode(packet), descriptors[0], reader))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def answer(control: socket.socket, done: Done) -> None:
    """Send what became of a job."""
    packet = msgspec.msgpack.encode(done)
    if len(packet) > MAX_PACKET_BYTES:
        text = Refused(done.number, "invalid", "request", "so many names", "use fewer or shorter")
        packet = msgspec.msgpack.encode(text)
    control.sendall(packet)


if __name__ == "__main__":
    # The server alone says when to stop: ^C reaches its children too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MAX_DATA_BYTES if hard == resource.RLIM_INFINITY else min(MAX_DATA_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    with contextlib.suppress(ConnectionError):
        main(socket.socket(fileno=int(sys.argv[1])))
