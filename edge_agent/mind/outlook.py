"""What the registry is told of a module: its phase, since when, and why it is not further."""

from msgspec.structs import replace

from edge_agent.mind import modules
from edge_agent.mind.modules import Module, Stage
from edge_agent.mind.turn import Turn
from runtime.messages import ModuleSpec, Phase


def describe(module: Module, turn: Turn) -> Module:
    """Return the module with what is to be told of it."""
    phase, reason, retrying = _outlook(module, turn)
    changed = phase is not module.shown or module.since == 0.0
    return replace(
        module,
        shown=phase,
        reason=reason,
        retrying=retrying,
        since=turn.now if changed else module.since,
    )


def _outlook(module: Module, turn: Turn) -> tuple[Phase, str, bool]:
    """Return phase, reason and whether the agent goes on by itself."""
    wanted = module.wanted
    if wanted is None:
        return module.shown, module.reason, module.retrying
    if modules.same(wanted, module.running):
        return _of_running(module, turn, wanted)
    refused = modules.refusal(module, wanted)
    if refused is not None:
        return Phase.FAILED, refused.reason, False
    if module.waiting and not module.trouble:
        return module.stage, f"waits up to {turn.spread_s:g} s for its turn to download", True
    return module.stage, module.trouble or _waits_for(module, turn), bool(module.trouble)


def _of_running(module: Module, turn: Turn, wanted: ModuleSpec) -> tuple[Phase, str, bool]:
    """Return the same for what has passed its check: it serves, or is being started."""
    blame, active = modules.blame_of(module, wanted), module.active
    if blame.crashes >= turn.limits.crash_limit:
        return Phase.FAILED, blame.reason, True
    if modules.same(modules.answering(module), wanted):
        return Phase.RUNNING, "", False
    waits_for = "" if active is None else active.waits_for
    if active is not None and active.stage in {Stage.ACCEPTING, Stage.SERVING}:
        return Phase.CHECKING, waits_for, False
    why = module.trouble or blame.reason
    return Phase.STAGED, why or waits_for, bool(module.trouble or blame.crashes)


def _waits_for(module: Module, turn: Turn) -> str:
    """Return what the next step of something wanted, with which nothing is wrong, waits for."""
    candidate, active = module.candidate, module.active
    if candidate is None:
        ready = module.stage is Phase.STAGED and not module.job
        return (
            "waits until another module of this device is tried" if ready and turn.testing else ""
        )
    said = [candidate.waits_for] if candidate.waits_for else []
    if active is not None and active.stage is Stage.RESTING:
        before = f"{active.spec.model}:{active.spec.version}"
        said.append(f"{before} is stopped while this one is tried (start: stop-then-start)")
    return "; ".join(said)
