"""`packhorse-agent` that kills itself: python -m tests.support.mortal_process MOMENT run --data …

MOMENT is WHAT:VERSION, of a module with containers; "": it lives.

    fetching, verifying, staged, checking, running    a module that wants VERSION is there
    create, start, stop, remove, remove_network       the engine has done so to VERSION
    journal                                           it is written down that VERSION runs
"""

import logging
import os
import signal
import sys
from typing import Any

from edge_agent import __main__ as program
from edge_agent.containers import plan
from edge_agent.journal import Journal
from edge_agent.mind.states import SavedState
from runtime.containers.engine import Engine
from runtime.messages import Phase


def die() -> None:
    """End as by a power cut."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_phase(phase: str, version: str) -> None:
    """Die when the agent has done what follows from a phase and writes so into its log."""

    def look(record: logging.LogRecord) -> bool:
        wants = str(getattr(record, "wants", ""))
        if getattr(record, "phase", "") == phase and wants.endswith(f":{version}"):
            die()
        return True

    logging.getLogger("edge_agent.owner").addFilter(look)


def die_after(method: str, version: str) -> None:
    """Die when the engine has done something to a version, before the agent hears of it."""
    real = getattr(Engine, method)

    def call(engine: Engine, name: str, *rest: Any, **named: Any) -> Any:
        labels = _labels(engine, name, *rest)
        answer = real(engine, name, *rest, **named)
        if labels.get(plan.VERSION, "").endswith(f":{version}"):
            die()
        return answer

    setattr(Engine, method, call)


def _labels(engine: Engine, name: str, *rest: Any) -> dict[str, str]:
    if rest:
        return dict(rest[0].labels)  # it is about to be made
    seen = engine.container(name)
    return dict(seen.labels) if seen is not None else engine.network_labels(name) or {}


def die_written_down(version: str) -> None:
    """Die when the journal says that a version runs, before anything follows from it."""
    real = Journal.write

    def write(book: Journal, saved: SavedState) -> bool:
        answer = real(book, saved)
        if version in {str(each.running.version) for each in saved.modules if each.running}:
            die()
        return answer

    Journal.write = write  # type: ignore[assignment, method-assign] # this process dies of it


def main() -> int:
    what, _, version = sys.argv.pop(1).partition(":")
    if what in {phase.value for phase in Phase}:
        die_in_phase(what, version)
    elif what == "journal":
        die_written_down(version)
    elif what:
        die_after(what, version)
    return program.main()


if __name__ == "__main__":
    sys.exit(main())
