"""Runs a command that the device's own settings allow, and no other.

Without a shell, in a session of its own, with nothing of the agent's environment but PATH and LANG;
it is killed, with all that it started, when whoever asked waits no longer.
"""

import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from edge_agent.remote.desk import Asked, Outcome
from runtime import children, operations
from runtime.errors import InvalidError

MAX_OUTPUT_BYTES = 1 << 20
READ_BYTES = 1 << 16
SLACK_S = 1.0
"""So much earlier than whoever asked gives up is the command ended, for the answer to arrive."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Commands:
    """The commands that agent.toml allows, by name."""

    def __init__(self, allowed: Mapping[str, tuple[str, ...]]) -> None:
        """`allowed` are programs with their arguments: none by default."""
        self._allowed = allowed

    def run(self, asked: Asked) -> Outcome:
        """Return what it printed, stdout and stderr together, at most MAX_OUTPUT_BYTES of it."""
        assert isinstance(asked.options, operations.ExecOptions)
        name = asked.options.name
        argv = self._allowed.get(name)
        if argv is None:
            known = ", ".join(sorted(self._allowed)) or "none"
            fix = f"this device allows {known} (remote_commands in its agent.toml)"
            raise InvalidError("name", name, fix)
        child = children.spawn(
            argv,
            env={"PATH": PATH, "LANG": os.environ.get("LANG", "C.UTF-8")},
            cwd=Path("/"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, whole = _read(child, asked)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
            assert child.stdout is not None
            child.stdout.close()
        return _outcome(name, code, output, whole)


def _outcome(name: str, code: int, output: bytes, whole: str) -> Outcome:
    facts = {"code": str(code)}
    if whole:
        return Outcome(f"{name}: {whole}", output, facts, ok=False)
    text = f"{name} ended with code {code}"
    return Outcome(text, output, facts, ok=code == 0)


def _read(child: subprocess.Popen[bytes], asked: Asked) -> tuple[bytes, str]:
    """Return what a child prints until it ends, and why it was not let end; "": it was."""
    assert child.stdout is not None
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            left_s = asked.left_s() - SLACK_S
            if left_s <= 0:
                return bytes(output), "ended: whoever asked waits no longer"
            if not selector.select(left_s):
                continue
            data = os.read(child.stdout.fileno(), READ_BYTES)
            if not data:
                break
            output += data
            if len(output) > MAX_OUTPUT_BYTES:
                return bytes(output[:MAX_OUTPUT_BYTES]), f"printed over {MAX_OUTPUT_BYTES} bytes"
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(asked.left_s())
    return bytes(output), ""
