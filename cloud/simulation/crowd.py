"""The processes that hold simulated devices, and what they tell."""

import contextlib
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from cloud.simulation.errors import SimulationError
from runtime import children, simulated
from runtime.digests import Digest
from runtime.simulated import Count, Fleet, Outcome, Trouble

END_S = 60.0
POLL_S = 0.02
_Told = Count | Outcome | Trouble


class _Process:
    """One child, and the thread that reads what it tells."""

    def __init__(self, fleet: Fleet, log: Path) -> None:
        self.count: Count | None = None
        self.outcomes: list[Outcome] = []
        self.trouble = ""
        with log.open("ab") as printed:
            self.child = children.spawn(
                [sys.executable, "-m", "edge_agent.simulation"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                start_new_session=True,
            )
        self.send(simulated.line(fleet))
        self.reading = threading.Thread(target=self._read, name="simulation", daemon=True)
        self.reading.start()

    def close(self) -> None:
        """Have it end."""
        assert self.child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()

    def stop(self) -> None:
        """End it, however it is, and let go of all it held."""
        self.close()
        children.stop(self.child, grace_s=1.0)
        self.reading.join()
        assert self.child.stdout is not None
        self.child.stdout.close()

    def send(self, line: bytes) -> None:
        """Tell it something."""
        assert self.child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already; the reader says so
            self.child.stdin.write(line)
            self.child.stdin.flush()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            told = msgspec.json.decode(line, type=_Told)
            match told:
                case Count():
                    self.count = told
                case Outcome():
                    self.outcomes.append(told)
                case Trouble():
                    self.trouble = told.text


class Crowd:
    """All processes of one simulation; leave the context to end them."""

    def __init__(self, fleets: Sequence[Fleet], directory: Path) -> None:
        """Start one process for each fleet; what they print goes to `directory`."""
        self._processes = [
            _Process(fleet, directory / f"devices-{number}.log")
            for number, fleet in enumerate(fleets)
        ]

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """End all processes."""
        for process in self._processes:
            process.stop()

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [process.child.pid for process in self._processes]

    def memory_bytes(self) -> int:
        """Return what the processes hold, what they share with others counted in parts."""
        return sum(_memory_bytes(pid) for pid in self.pids)

    def count(self) -> Count:
        """Return how all devices are, as far as was told; raise SimulationError."""
        self._require_alive()
        told = [process.count for process in self._processes if process.count is not None]
        running: Counter[Digest] = Counter()
        ran: Counter[Digest] = Counter()
        generations: Counter[int] = Counter()
        tries: Counter[int] = Counter()
        for one in told:
            tries.update(one.tries)
            running.update(one.running)
            ran.update(one.ran)
            generations.update(one.generations)
        return Count(
            devices=sum(one.devices for one in told),
            connected=sum(one.connected for one in told),
            running=dict(running),
            ran=dict(ran),
            failed=sum(one.failed for one in told),
            generations=dict(generations),
            messages=sum(one.messages for one in told),
            connects=sum(one.connects for one in told),
            waiting=sum(one.waiting for one in told),
            met=sum(one.met for one in told),
            spared=sum(one.spared for one in told),
            tries=dict(tries),
        )

    def wait(self, holds: Callable[[Count], bool], deadline: float) -> bool:
        """Wait until something holds of all devices; return whether it did in time."""
        pause = threading.Event()
        while not holds(self.count()):
            if time.monotonic() > deadline:
                return False
            pause.wait(POLL_S)
        return True

    def storm(self) -> None:
        """Have the power of the site go in one moment."""
        for process in self._processes:
            process.send(simulated.STORM)

    def calm(self) -> None:
        """Let no more faults happen."""
        for process in self._processes:
            process.send(simulated.CALM)

    def end(self) -> list[Outcome]:
        """Have all devices say goodbye; return how each ended."""
        for process in self._processes:
            process.close()
        deadline = time.monotonic() + END_S
        for process in self._processes:
            process.reading.join(max(0.0, deadline - time.monotonic()))
        return [outcome for process in self._processes for outcome in process.outcomes]

    def _require_alive(self) -> None:
        for process in self._processes:
            if process.trouble:
                raise SimulationError(process.trouble)
            if process.child.poll() is not None:
                code = process.child.returncode
                raise SimulationError(f"a process of simulated devices ended with code {code}")


def _memory_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
