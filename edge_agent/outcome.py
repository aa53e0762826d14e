"""What becomes of a version that was applied by hand: waits until it runs, or says why not."""

import threading
import time
from pathlib import Path

from edge_agent import status
from edge_agent.errors import ControlError
from edge_agent.mind.events import HandApplied
from runtime.messages import ModuleReport, Phase

POLL_S = 0.2


def wait(run_directory: Path, applied: HandApplied, *, timeout_s: float) -> str:
    """Return one line once it runs.

    Raises ControlError if it failed, if the registry wanted something else meanwhile, or if it does
    not run in time; NotRunningError if the agent ends.
    """
    deadline, tick = time.monotonic() + timeout_s, threading.Event()
    what = f"{applied.module}: {applied.model}:{applied.version}"
    phase = Phase.FETCHING
    while time.monotonic() < deadline:
        told = status.ask(run_directory).reported
        module = next((each for each in told.modules if each.name == applied.module), None)
        if module is None or module.bundle != applied.bundle:
            raise ControlError(f"{what} was replaced: the registry wants something else")
        phase = module.phase
        if _runs(module):
            return f"{what} runs"
        if phase is Phase.FAILED and not module.retrying:
            raise ControlError(f"{what} failed: {module.reason}; what ran before runs on")
        tick.wait(POLL_S)
    raise ControlError(f"{what} is {phase.value} after {timeout_s:g} s: see its status")


def _runs(module: ModuleReport) -> bool:
    running = module.running
    return module.phase is Phase.RUNNING and running is not None and running.bundle == module.bundle
