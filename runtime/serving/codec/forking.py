"""The codec's first process, made before the server has threads, sockets or models.

    serve ──imports numpy, msgspec──► fork ──► imports onnxruntime, grpc, loads ──► ready
                                        └────► waits for jobs

A process of its own would have what both need in memory a second time, some 14 MB, and would take
a third of a second of CPU just while the models load. The copy shares it. If it ends, the next one
is started from nothing, as it is by who did not fork.
"""

import gc
import os
import signal
import socket
import sys
import threading
import warnings
from typing import NamedTuple

from runtime.serving.codec import __main__ as codec


class Forked:
    """The process, as subprocess.Popen shows one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code; once."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Started(NamedTuple):
    """A codec's process, and our end of what leads to it."""

    child: Forked
    control: socket.socket


def fork() -> Started | None:
    """Start it; None where other threads may hold locks, or the system has no room for it."""
    if threading.active_count() > 1:
        return None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.freeze()  # the collector would write to what is shared
    with warnings.catch_warnings():
        # Python 3.12 counts numpy's threads too, which OpenBLAS ends and begins around a fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            return None
    if pid == 0:
        _serve(theirs, ours)
    theirs.close()
    return Started(Forked(pid), ours)


def _serve(control: socket.socket, other: socket.socket) -> None:
    """Be the codec; this does not return to what the server was about to do."""
    code = 1
    try:
        other.close()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        gc.enable()
        codec.run(control)
        code = 0
    except BaseException:  # noqa: BLE001 - nothing may go on beyond this
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)
