"""Starts and kills a script's process."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys

from runtime import children

BUFFER_BYTES = 1 << 20
OURS = "PACKHORSE_"
"""Environment variables of this prefix may hold secrets: scripts do not get to see them."""


def spawn(send_timeout_s: float) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a process; return it and where it is spoken to.

    It ends with the thread that calls this. A send that its process does not read for so long fails
    with BlockingIOError, so that nobody waits for it for ever.
    """
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(send_timeout_s))
    argv = [sys.executable, "-m", "runtime.serving.scripts", "--control-fd", str(theirs.fileno())]
    with theirs:
        child = children.spawn(
            argv, pass_fds=[theirs.fileno()], env=_environment(), start_new_session=True
        )
    return child, ours


def kill(child: subprocess.Popen[bytes]) -> None:
    """Kill a process that was not yet waited for, and all that it started in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def shown(code: int) -> str:
    """Return an exit code as a person reads it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(OURS)}


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("@ll", whole, int((seconds - whole) * 1_000_000))
