"""The agent's mind: a pure function from what is and what happens to what is next.

    step(state, event, now) ─► state, effects

The owner of the state (owner.py) makes the durable half of the new state survive (journal.py)
before it does any of the effects, so a kill at any moment leaves a state from which Boot goes on:

    fetching ─► verifying ─► staged ─► checking ─► running
        │           │           │          │          │
        └───────────┴───────────┴──────────┴──────────┴──► failed(reason); the old version runs on

One event moves one module (faults.py says where to, when it is a bad one); then every module asks
for what it needs next (plan.py).
"""

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.mind import byhand, candidates, effects, faults, modules, plan, trialnames, warming
from edge_agent.mind.effects import Effect
from edge_agent.mind.events import (
    Boot,
    CandidateCounted,
    DesiredReceived,
    Event,
    Fetched,
    FetchProgress,
    HandApplied,
    JobFailed,
    LinkUp,
    RestartAsked,
    SourcesStopped,
    TimerFired,
    TimerKey,
    Verified,
    WorkerAccepting,
    WorkerChecked,
    WorkerEvent,
    WorkerExited,
    WorkerFailed,
    WorkerHeld,
    WorkerLoaded,
    WorkerRests,
    WorkerWaits,
    WorkerWarming,
)
from edge_agent.mind.modules import Module, Reading, Saved, Stage, Worker
from edge_agent.mind.turn import Limits, Turn
from runtime.messages import Desired, ModuleSpec, Phase, Progress

__all__ = ["Limits", "SavedState", "State", "resume", "step", "to_save"]


class SavedState(Struct, frozen=True, omit_defaults=True):
    """What of the state must survive."""

    desired: Desired | None = None
    boot_id: str = ""
    modules: tuple[Saved, ...] = ()


class State(Struct, frozen=True):
    """All the agent knows."""

    limits: Limits = Limits()
    desired: Desired | None = None
    boot_id: str = ""
    """Of the kernel, when this agent last started."""
    modules: tuple[Module, ...] = ()
    number: int = 0
    """The last number given to a worker or a job."""

    @property
    def generation(self) -> int:
        """The newest generation taken over; 0: none."""
        return self.desired.generation if self.desired else 0


def to_save(state: State) -> SavedState:
    """Return what must survive of a state."""
    kept = tuple(modules.saved(module) for module in state.modules)
    return SavedState(desired=state.desired, boot_id=state.boot_id, modules=kept)


def resume(saved: SavedState, limits: Limits) -> State:
    """Return the state of an agent that has just started; Boot is its first event."""
    held = tuple(modules.restored(module) for module in saved.modules)
    return State(limits=limits, desired=saved.desired, boot_id=saved.boot_id, modules=held)


def step(state: State, event: Event, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Return the state after an event at `now` (seconds since 1970), and what to do about it."""
    turn = Turn(now=now, number=state.number, limits=state.limits)
    state = _apply(state, event, turn)
    asked = state.desired.modules if state.desired else ()
    turn.spread_s = plan.spread_s(state.desired.fleet) if state.desired else 0.0
    state = replace(state, modules=candidates.settle(state.modules, asked, turn, _want))
    turn.testing = any(module.candidate is not None for module in state.modules)
    settled = [plan.settle(module, turn) for module in state.modules]
    for module in settled:
        if _is_gone(module):
            turn.do(effects.Forget(module.name))
            turn.do(effects.CollectGarbage())
    left = tuple(module for module in settled if not _is_gone(module))
    return replace(state, modules=left, number=turn.number), tuple(turn.effects)


def _is_gone(module: Module) -> bool:
    return module.wanted is None and not modules.workers(module)


def _apply(state: State, event: Event, turn: Turn) -> State:
    match event:
        case Boot():
            state = _boot(state, event, turn)
        case DesiredReceived():
            state = _take_over(state, event.desired, turn)
        case HandApplied():
            state = _by_hand(state, event, turn)
        case LinkUp():
            state = replace(state, modules=tuple(_hurry(module) for module in state.modules))
        case RestartAsked():
            state = _on_module(state, event.module, lambda old: _restart(old, turn))
        case TimerFired():
            state = _on_module(state, event.key.module, lambda old: _timer(old, turn, event.key))
        case Fetched() | FetchProgress() | Verified() | JobFailed():
            state = _on_module(state, event.module, lambda old: _job(old, turn, event))
        case CandidateCounted():
            state = replace(state, modules=candidates.counted(state.modules, event, turn, _want))
        case WorkerEvent():
            state = _on_module(state, event.module, lambda old: _worker(old, turn, event))
    return state


def _on_module(state: State, name: str, change: Callable[[Module], Module]) -> State:
    held = tuple(change(module) if module.name == name else module for module in state.modules)
    return replace(state, modules=held)


def _boot(state: State, event: Boot, turn: Turn) -> State:
    turn.do(effects.CollectGarbage())
    turn.do(effects.ForgetOthers(tuple(module.name for module in state.modules)))
    held = state.modules
    if state.boot_id not in {"", event.boot_id}:
        held = tuple(faults.device_restarted(module, turn) for module in held)
    return replace(state, modules=held, boot_id=event.boot_id)


def _take_over(state: State, desired: Desired, turn: Turn) -> State:
    if desired == state.desired:
        return state
    if desired.generation <= state.generation:
        # An old or a forged message, or a registry restored from a backup: the report names our
        # generation, and the registry publishes a newer one.
        turn.do(effects.Report())
        return state
    trials = {each.name: each for each in state.modules if trialnames.is_trial(each.name)}
    known = {each.name: each for each in state.modules if each.name not in trials}
    wanted = {spec.name: spec for spec in desired.modules}
    held = tuple(
        _want(known.get(name, Module(name=name)), wanted.get(name))
        for name in sorted({*known, *wanted})
    )
    turn.do(effects.CollectGarbage())
    turn.do(effects.Report())
    return replace(state, desired=desired, modules=(*held, *trials.values()))


def _by_hand(state: State, event: HandApplied, turn: Turn) -> State:
    """Want what somebody has brought, until the registry's next word."""
    known = {module.name: module for module in state.modules}
    module = known.get(event.module, Module(name=event.module))
    known[event.module] = _want(module, byhand.wish(module, event))
    turn.do(effects.CollectGarbage())
    turn.do(effects.Report())
    return replace(state, modules=tuple(known[name] for name in sorted(known)))


def _want(module: Module, spec: ModuleSpec | None) -> Module:
    module, spec = _hurry(module), candidates.effective(module, spec)
    if spec == module.wanted:
        return module
    before = module.wanted
    if spec is None or before is None or spec.bundle != before.bundle:
        module = replace(module, transfer=None)
    # Somebody changed something: whatever waits in a back-off is tried now.
    return replace(module, wanted=spec, waiting=False, resting=False, since=0.0)


def _hurry(module: Module) -> Module:
    """Try again now what waits for the network or the disk; a crash loop keeps its pace."""
    if module.waiting and module.stage in {Phase.FETCHING, Phase.VERIFYING}:
        return replace(module, waiting=False, retries=0)
    return module


def _restart(module: Module, turn: Turn) -> Module:
    """Have the process that answers end, for another to start; it is no crash of anybody's."""
    if module.active is None or module.active.stage is not Stage.SERVING:
        return module
    return plan.discard(module, turn, module.active)


def _job(
    module: Module, turn: Turn, event: Fetched | FetchProgress | Verified | JobFailed
) -> Module:
    if module.job != event.job:
        return module
    match event:
        case FetchProgress():
            return replace(module, progress=Progress(event.done_bytes, event.total_bytes))
        case JobFailed():
            return faults.job_failed(module, turn, event)
        case Fetched():
            pursued, wanted = module.pursued, module.wanted
            if pursued is not None and wanted is not None and pursued.bundle == wanted.bundle:
                module = replace(module, transfer=event.transfer)  # else what runs was mended
            return replace(module, job=0, retries=0, trouble="", stage=Phase.VERIFYING)
    if modules.same(module.pursued, module.running):
        # What runs could not be loaded, and its files are whole now.
        return replace(module, job=0, broken=False, resting=False)
    return replace(module, job=0, retries=0, trouble="", stage=Phase.STAGED)


def _timer(module: Module, turn: Turn, key: TimerKey) -> Module:
    active, warm = module.active, module.warm
    match key.kind:
        case "retry":
            return replace(module, waiting=False)
        case "restart":
            return replace(module, resting=False)
        case "start" | "check":
            return faults.too_late(module, turn, key)
        case "soak" if active is not None and warm is not None and active.slot == key.slot:
            turn.do(effects.CollectGarbage())
            return plan.discard(module, turn, warm)
        case "stable" if active is not None and active.slot == key.slot:
            return modules.forgiven(replace(module, proven=True), active.spec.bundle)
    return module


def _worker(module: Module, turn: Turn, event: WorkerEvent) -> Module:
    worker = next((held for held in modules.workers(module) if held.slot == event.slot), None)
    if worker is None:
        return module
    match event:
        case WorkerExited():
            module = faults.worker_exited(module, turn, worker, event)
        case SourcesStopped():
            module = modules.replace_worker(module, replace(worker, reading=Reading.OFF))
        case WorkerFailed() if worker not in module.leaving:
            module = faults.worker_failed(module, turn, worker, event.text)
        case WorkerChecked() if worker is module.candidate and event.ok:
            module = plan.switch(module, turn, worker)
        case WorkerChecked() if worker is module.candidate:
            module = faults.worker_failed(module, turn, worker, f"check: {event.text}")
        case _:
            module = _on_its_way(module, turn, worker, event)
    return module


def _on_its_way(module: Module, turn: Turn, worker: Worker, event: WorkerEvent) -> Module:
    """Note how far a worker is with which nothing is wrong."""
    match event:
        case WorkerLoaded() if worker.stage is Stage.STARTING:
            module = warming.over(module, worker)
        case WorkerWarming():
            module = warming.heard(module, turn, worker, event.text)
        case WorkerAccepting() if worker.stage in {Stage.ACCEPTING, Stage.RESTING}:
            module = _accepting(module, turn, worker)
        case WorkerHeld() if worker.stage is Stage.YIELDING:
            module = modules.replace_worker(module, replace(worker, stage=Stage.HELD))
        case WorkerRests() if worker.stage is Stage.SERVING:
            module = modules.replace_worker(module, replace(worker, stage=Stage.RESTING))
        case WorkerWaits():
            module = modules.replace_worker(module, replace(worker, waits_for=event.text))
    return module


def _accepting(module: Module, turn: Turn, worker: Worker) -> Module:
    module = modules.replace_worker(module, replace(worker, stage=Stage.SERVING))
    if module.active is None or module.active.slot != worker.slot:
        return module
    if module.pursued is None:
        module = replace(module, trouble="")
    stable = TimerKey(module.name, "stable", worker.slot)
    turn.do(effects.SetTimer(stable, turn.limits.stable_s))
    if module.warm is not None:
        soak = TimerKey(module.name, "soak", worker.slot)
        turn.do(effects.SetTimer(soak, worker.spec.soak_s))
    return module
