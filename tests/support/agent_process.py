"""A real agent process on a folder instead of a registry, which can be told when to die.

python -m tests.support.agent_process DATA FOLDER ASK_URL [--die WHEN]

WHEN is a moment of the deployment of another bundle than the one that was wanted when the process
started: `phase:checking` (the first report of this phase), `switching` (the new version is the
journal's, the old one answers), or `commit:7` (the 7th commit point of runtime.files since the
start), `journal:3` (the same, of the journal's own).
"""

import argparse
import itertools
import os
import signal
import time
from pathlib import Path

import msgspec

from edge_agent import settings
from edge_agent.agent import Agent
from edge_agent.assembly import Place
from edge_agent.journal import read_file
from runtime import datalock, files, logs
from runtime.clock import SystemClock
from runtime.digests import Digest
from runtime.messages import Reported
from runtime.topics import DeviceId
from tests.support.uplinks import FolderUplink

DEVICE = DeviceId("dev-a")


class SetClock(SystemClock):
    """A wall clock that was set to some time when the process started."""

    def __init__(self, at: float) -> None:
        self._offset = at - time.time()

    def now(self) -> float:
        return time.time() + self._offset


def die() -> None:
    """End as by a power cut."""
    os.kill(os.getpid(), signal.SIGKILL)


class DyingUplink(FolderUplink):
    """Kills its process at a moment that it sees in a report."""

    when = ""
    data = Path()
    _first: Digest | None = None
    """The bundle that was wanted when the process started."""

    def changed(self, *, urgent: bool) -> None:
        super().changed(urgent=urgent)
        if self._hooks is not None and self._is_time(self._hooks.compose()):
            die()

    def _is_time(self, reported: Reported) -> bool:
        for module in reported.modules:
            self._first = self._first or module.bundle
            if module.bundle == self._first:
                continue
            if self.when == f"phase:{module.phase.value}":
                return True
            if self.when == "switching":
                written = read_file(self.data / "journal.json").modules[0]
                answers = module.running and module.running.bundle
                return written.running is not None and answers not in {
                    None,
                    written.running.bundle,
                }
        return False


def die_at(what: str, number: int) -> None:
    """Arrange for this process to die at the n-th commit point (of the journal, or of any file)."""
    count = itertools.count(1)

    def commit_point(step: str, path: Path) -> None:  # noqa: ARG001 - named as in files
        if (what == "commit" or "journal.json" in path.name) and next(count) == number:
            die()

    files.commit_point = commit_point


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("ask_url")
    parser.add_argument("--die", default="")
    parser.add_argument("--settings", default="{}")
    parser.add_argument("--clock", type=float)
    chosen = parser.parse_args()
    logs.set_up(level="info")
    what, _, number = chosen.die.partition(":")
    if what in {"commit", "journal"}:
        die_at(what, int(number))
    uplink = DyingUplink(chosen.folder, chosen.ask_url)
    uplink.when, uplink.data = chosen.die, chosen.data
    with datalock.held(chosen.data):
        wanted = settings.of(
            {"reserve_mb": 0, "flush_s": 0.05} | msgspec.json.decode(chosen.settings)
        )
        clock = SystemClock() if chosen.clock is None else SetClock(chosen.clock)
        agent = Agent(Place(chosen.data, DEVICE), wanted, uplink, clock=clock)
        signal.signal(signal.SIGTERM, lambda _number, _frame: agent.stop())
        agent.run()


if __name__ == "__main__":
    main()
