"""Start a child process that does not outlive its parent, not even one that was killed.

The kernel sends the child SIGKILL when the *thread* that started it ends (PR_SET_PDEATHSIG), so
callers start children from threads that live as long as the child shall.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeAlias

PR_SET_PDEATHSIG = 1
Stream: TypeAlias = IO[bytes] | int | None

# Looked up here and not after the fork, where importing or loading could wait for a lock that some
# other thread held at the moment of the fork.
_prctl = ctypes.CDLL(None).prctl


def spawn(
    argv: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: Stream = None,
    stderr: Stream = None,
    stdin: Stream = subprocess.DEVNULL,
    start_new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start `argv`; the child inherits no descriptor but the standard ones and `pass_fds`.

    With `start_new_session` a Ctrl-C at the terminal reaches the parent alone, which then stops the
    child in its own order. Raises OSError if the program cannot be started.
    """
    return subprocess.Popen(
        list(argv),
        pass_fds=tuple(pass_fds),
        env=None if env is None else dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        close_fds=True,
        start_new_session=start_new_session,
        # Safe with threads: it touches nothing but what is bound here already.
        preexec_fn=_bound_to(os.getpid()),  # noqa: PLW1509
    )


def _bound_to(parent: int) -> Callable[[], None]:
    """Return what the child does between fork and exec."""

    def bind() -> None:
        failed = _prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # The parent may have died before the line above took effect.
        if failed or os.getppid() != parent:
            os._exit(1)

    return bind


def stop(child: subprocess.Popen[bytes], *, grace_s: float) -> int:
    """Ask a child to end, kill it after `grace_s` seconds; return its exit code."""
    if child.poll() is None:
        child.terminate()
        try:
            return child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()
