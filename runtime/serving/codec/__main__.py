"""`python -m runtime.serving.codec FD`: reads and writes large JSON for a server.

One job at a time, until the server closes its end of the socket, or is no more. What a job has
used serves the next; after a moment without one it goes back to the system.
"""

import contextlib
import os
import resource
import select
import signal
import socket
import sys

import msgspec

from runtime.serving import memory
from runtime.serving.codec import work
from runtime.serving.codec.frames import MAX_PACKET_BYTES, Done, Job, Refused
from runtime.serving.codec.reading import Reader

MAX_DATA_BYTES = 2 << 30
"""Of this process: a body that needs more is refused, and the machine goes on."""
REST_S = 0.2
"""Without a job, before memory is given back: fetching it again costs a job some 3 ms."""
_DECODER = msgspec.msgpack.Decoder(Job)


def main(control: socket.socket) -> None:
    """Serve the other end of a socket."""
    reader = Reader()
    while _job(control, reader):
        if not _comes(control):
            reader = Reader()
            memory.give_back()


def _job(control: socket.socket, reader: Reader) -> bool:
    """Wait for a job and do it; False: there will be none any more."""
    packet, descriptors, _, _ = socket.recv_fds(control, MAX_PACKET_BYTES, 1)
    if not packet:
        return False
    try:
        answer(control, work.do(_DECODER.decode(packet), descriptors[0], reader))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return True


def _comes(control: socket.socket) -> bool:
    """Wait for a job or the end, and say whether one of them came in time."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    return bool(poll.poll(REST_S * 1000))


def answer(control: socket.socket, done: Done) -> None:
    """Send what became of a job."""
    packet = msgspec.msgpack.encode(done)
    if len(packet) > MAX_PACKET_BYTES:
        text = Refused(done.number, "invalid", "request", "so many names", "use fewer or shorter")
        packet = msgspec.msgpack.encode(text)
    control.sendall(packet)


def run(control: socket.socket) -> None:
    """Be the codec, and nothing else any more."""
    # The server alone says when to stop: ^C reaches its children too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MAX_DATA_BYTES if hard == resource.RLIM_INFINITY else min(MAX_DATA_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    memory.keep()
    with contextlib.suppress(ConnectionError):
        main(control)


if __name__ == "__main__":
    run(socket.socket(fileno=int(sys.argv[1])))
