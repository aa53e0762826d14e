"""`packhorse-runtime launch`: start another command the way a container needs it.

With --env-file, variables come from a file that `docker inspect` does not show. With --hold, this
process keeps the container, and with it the network and its published port, while the command in it
comes and goes: so that another container can take over in the same network.

    running ── SIGUSR1 ──► held: the command has ended in peace, its status file is gone
            ◄── SIGUSR2 ──
    running ── SIGTERM ──► the command ends, then this
    running ── the command ends by itself ──► this ends with its code
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from runtime.errors import InvalidError

MAX_ENV_BYTES = 1 << 20
_SIGNALLED = 128


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "launch",
        help="start another command in a container",
        description="Start COMMAND with variables from a file, or so that it can be replaced.",
    )
    take = parser.add_argument
    take("--env-file", type=Path, metavar="FILE", help="JSON object of variables to values")
    take("--hold", type=Path, metavar="FILE", help="stay when it is sent away; FILE: its status")
    take("argv", nargs=argparse.REMAINDER, metavar="COMMAND ...", help="with its own options")


def run(arguments: argparse.Namespace) -> int:
    """Start the command; return its exit code if it is held, else do not return."""
    words = [each for at, each in enumerate(arguments.argv) if at or each != "--"]
    if not words:
        raise InvalidError("COMMAND", "", "name the command to start, such as serve")
    env = {**os.environ, **(_variables(arguments.env_file) if arguments.env_file else {})}
    argv = [sys.executable, "-m", "runtime", *words]
    if arguments.hold is None:
        os.execve(argv[0], argv, env)  # noqa: S606 - the same program, as another command
    return Holder(argv, env, arguments.hold).run()


def _variables(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ENV_BYTES + 1)
        found = json.loads(data) if len(data) <= MAX_ENV_BYTES else None
    except (OSError, ValueError) as error:
        raise InvalidError("--env-file", str(path), f"{type(error).__name__}: see it") from error
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise InvalidError("--env-file", str(path), "write a JSON object of names to texts")
    return {str(name): str(value) for name, value in found.items()}


class Holder:
    """Process 1 of a container: keeps it while its command comes and goes."""

    def __init__(self, argv: list[str], env: dict[str, str], status: Path) -> None:
        self._argv, self._env, self._status = argv, env, status
        self._child: subprocess.Popen[bytes] | None = None
        self._ending, self._wanted, self._sent_away = False, True, False

    def run(self) -> int:
        """Stay until SIGTERM, or until the command ends by itself; return the exit code."""
        numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
        # Waited for, not handled: nothing happens in between.
        signal.pthread_sigmask(signal.SIG_BLOCK, {*numbers, signal.SIGCHLD})
        self._start()
        while True:
            number = signal.sigwait({*numbers, signal.SIGCHLD})
            code = self._react(number)
            if code is not None:
                return code

    def _react(self, number: int) -> int | None:
        """Do what a signal asks for; return the exit code if that is the end."""
        if number == signal.SIGCHLD:
            return self._reap()
        if number in {signal.SIGTERM, signal.SIGINT}:
            if self._child is None:
                return 0
            self._ending = True
            self._child.terminate()
        elif number == signal.SIGUSR1:
            self._wanted = False
            self._send_away()
        elif number == signal.SIGUSR2:
            self._wanted = True
            if self._child is None:
                self._start()
        elif self._child is not None:
            self._child.send_signal(number)
        return None

    def _start(self) -> None:
        # What a former life wrote is not the status of this one.
        self._status.unlink(missing_ok=True)
        self._sent_away = False
        self._child = subprocess.Popen(
            self._argv,
            env=self._env,
            preexec_fn=_unblock,  # noqa: PLW1509 - this process has one thread
        )

    def _send_away(self) -> None:
        if self._child is not None and not self._sent_away:
            self._sent_away = True
            self._child.terminate()

    def _reap(self) -> int | None:
        """Take over the exit of the command, or of an orphan, of which process 1 is the parent."""
        code = None
        while (ended := _ended()) is not None:
            pid, status = ended
            if self._child is not None and pid == self._child.pid:
                self._child.returncode = os.waitstatus_to_exitcode(status)
                code = self._take_leave(self._child.returncode)
        return code

    def _take_leave(self, code: int) -> int | None:
        """Return the exit code if with the command all ends."""
        self._child = None
        if self._ending or not self._sent_away:
            return code if code >= 0 else _SIGNALLED - code
        self._status.unlink(missing_ok=True)
        if self._wanted:
            self._start()
        return None


def _ended() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
