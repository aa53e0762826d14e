"""Console commands of ours as child processes."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from runtime import children
from tests.support import brokers

PATIENCE_S = 60.0
"""For a process to start or a device to get somewhere, on a machine with other work to do."""
STOP_S = 20.0


def eventually(holds: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait until something holds; fail naming `what` if it does not in time."""
    brokers.eventually(holds, what, timeout_s)


@contextlib.contextmanager
def scratch(below: str | None = None) -> Iterator[Path]:
    """Give a directory with a path short enough for Unix sockets; gone afterwards."""
    place = Path(tempfile.mkdtemp(prefix="ph-", dir=below))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Command:
    """One console command, run again and again."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        """Run `name`, from beside this Python, with output appended to `log`."""
        self._argv = [str(Path(sys.executable).parent / name), *arguments]
        self.log = log
        self.environment: dict[str, str] = {}
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the last start."""
        assert self._child is not None, "it was never started"
        return self._child.pid

    @property
    def runs(self) -> bool:
        """Whether it runs now."""
        return self._child is not None and self._child.poll() is None

    def spawn(self) -> None:
        """Start it; returns at once."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = children.spawn(
                self._argv, stdout=log, stderr=log, env={**os.environ, **self.environment}
            )

    def run(self, *arguments: str, timeout_s: float = PATIENCE_S) -> str:
        """Run it to its end with further arguments; return its output, or fail showing it."""
        done = subprocess.run(
            [*self._argv, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, **self.environment},
        )
        assert done.returncode == 0, f"{self._argv[0]} {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def kill(self) -> None:
        """Kill -9."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._child is not None, "it was never started"
        self._child.send_signal(number)

    def stop(self) -> int:
        """SIGTERM; return the exit code. Killed if it does not end."""
        return 0 if self._child is None else children.stop(self._child, grace_s=STOP_S)

    def end(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for it to end by itself; return the exit code."""
        assert self._child is not None, "it was never started"
        return self._child.wait(timeout_s)

    def descendants(self, word: str) -> list[psutil.Process]:
        """Return the processes below it whose command line has this word."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if any(word in part for part in process.cmdline()):
                        found.append(process)
        return found

    def tail(self, characters: int = 3000) -> str:
        """Return the end of its output."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""
