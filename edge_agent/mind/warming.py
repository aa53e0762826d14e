"""How long a worker may take to load; one that builds an engine for this board may take longer."""

from msgspec.structs import replace

from edge_agent.mind import effects, modules
from edge_agent.mind.events import TimerKey
from edge_agent.mind.modules import Module, Stage, Worker
from edge_agent.mind.turn import Limits, Turn
from runtime.messages import Phase


def heard(module: Module, turn: Turn, worker: Worker, text: str) -> Module:
    """Give it the longer time-out, once, and report how far it is."""
    if worker.stage is not Stage.STARTING:
        return module
    if not worker.warming:
        key = TimerKey(module.name, "start", worker.slot)
        turn.do(effects.SetTimer(key, turn.limits.engine_timeout_s))
        worker = replace(worker, warming=True)
        module = modules.replace_worker(module, worker)
    if module.candidate is not None and module.candidate.slot == worker.slot:
        return replace(module, stage=Phase.CHECKING, trouble=text)
    return module


def over(module: Module, worker: Worker) -> Module:
    """Return the module with a worker that has loaded."""
    ready = modules.replace_worker(module, replace(worker, stage=Stage.READY))
    return replace(ready, trouble="") if worker.warming else ready


def too_late(worker: Worker, limits: Limits) -> str:
    """Say what a worker, whose time for it is over, has not done."""
    if worker.stage is Stage.CHECKING:
        return f"the check did not end within {limits.check_timeout_s:g} s (check_timeout_s)"
    if worker.warming:
        limit = f"{limits.engine_timeout_s:g} s (engine_timeout_s)"
        return f"the engine was not built within {limit}"
    return f"the model did not load within {limits.start_timeout_s:g} s (start_timeout_s)"
