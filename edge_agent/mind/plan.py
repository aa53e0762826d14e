"""What to do next for one module, from where it stands.

`settle` is called after every event, looks at the whole module and asks for what is missing, so
no rule depends on which event came last:

    remove    wanted by nobody: every process ends, then the module is forgotten
    serve     `running` has a process, and that process takes the traffic
    prepare   what is wanted and not running goes fetching → verifying → staged → checking, in a
              process beside the one that serves; the latter is not touched until the check passed
    sources   exactly one process reads them: the old one stops, its spool drains, the new starts
    describe  what the registry is told
"""

from msgspec.structs import replace

from edge_agent.mind import effects, modules, outlook, terms
from edge_agent.mind.events import TimerKey
from edge_agent.mind.modules import Module, Reading, Stage, Worker
from edge_agent.mind.terms import NO_TERMS, Terms
from edge_agent.mind.turn import Turn
from runtime.messages import ModuleSpec, Phase

MOST_WAIT_S = 300.0
DOWNLOADS_PER_S = 100.0
"""A fleet that is told of a bundle in one moment begins to fetch it at about this rate."""
FIRST_SHARE = 0.1
"""So much of that time goes by before the first: all are told, and the registry makes deltas."""


def settle(module: Module, turn: Turn) -> Module:
    """Return the module after asking for all that can be done now."""
    if module.wanted is None:
        return _remove(module, turn)
    module = _serve(module, turn)
    module = _prepare(module, turn)
    module = _serve(module, turn)
    module = _hand_over_sources(module, turn)
    return outlook.describe(module, turn)


def spread_s(fleet: int) -> float:
    """Return within which time the devices of such a fleet begin a download; 0: at once."""
    return fleet / DOWNLOADS_PER_S if fleet > DOWNLOADS_PER_S else 0.0


def backoff_s(failures: int) -> float:
    """Return the longest wait after so many failures in a row."""
    return min(MOST_WAIT_S, 2.0 ** min(failures, 16))


def switch(module: Module, turn: Turn, new: Worker) -> Module:
    """Make a worker that passed its check the one that serves; the one before stays warm."""
    old, before = module.active, module.running
    if module.warm is not None and module.warm.slot != new.slot:
        module = discard(module, turn, module.warm)
    if old is not None and old.stage not in {Stage.ACCEPTING, Stage.SERVING, Stage.RESTING}:
        module, old = discard(module, turn, old, kill=True), None
    keep = before is not None and modules.refusal(module, before) is None
    return replace(
        module,
        running=new.spec,
        previous=before if keep else None,
        proven=False,
        trying=None,
        active=replace(new, stage=Stage.READY),
        warm=old,
        candidate=None,
        resting=False,
        broken=False,
        **_nothing_pursued(),
    )


def discard(module: Module, turn: Turn, worker: Worker, *, kill: bool = False) -> Module:
    """Return the module with a worker told to end."""
    turn.do(effects.StopWorker(module.name, worker.slot, kill))
    return replace(without(module, worker.slot), leaving=(*module.leaving, worker))


def without(module: Module, slot: int) -> Module:
    """Return the module without a worker, wherever it was."""
    return replace(
        module,
        active=_unless(module.active, slot),
        candidate=_unless(module.candidate, slot),
        warm=_unless(module.warm, slot),
        leaving=tuple(worker for worker in module.leaving if worker.slot != slot),
    )


def _unless(worker: Worker | None, slot: int) -> Worker | None:
    return None if worker is not None and worker.slot == slot else worker


def _remove(module: Module, turn: Turn) -> Module:
    if module.job:
        turn.do(effects.CancelJob(module.name, module.job))
    for worker in modules.workers(module):
        if worker not in module.leaving:
            module = discard(module, turn, worker)
    return Module(name=module.name, leaving=module.leaving)


def _serve(module: Module, turn: Turn) -> Module:
    if module.running is None:
        return module
    if modules.same(module.wanted, module.running):
        # Another deployment or attempt may ask for the same thing: no reason to restart it.
        active = _renamed(module.active, module.wanted)
        module = replace(module, running=module.wanted, active=active)
    active, warm = module.active, module.warm
    if active is None:
        if module.resting or module.running is None:
            return module
        return replace(module, active=_start(module, turn, module.running))
    if active.stage in {Stage.READY, Stage.YIELDING, Stage.HELD}:
        turn.do(effects.Accept(module.name, active.slot))
        return replace(module, active=replace(active, stage=Stage.ACCEPTING))
    if active.stage is Stage.SERVING and warm is not None and not warm.stage.is_held:
        turn.do(effects.Hold(module.name, warm.slot))
        took_some = warm.stage is not Stage.RESTING
        stage = Stage.YIELDING if took_some else Stage.HELD
        return replace(module, warm=replace(warm, stage=stage))
    return module


def _renamed(worker: Worker | None, spec: ModuleSpec | None) -> Worker | None:
    """Return a worker under a wish that it fulfils already."""
    return worker if worker is None or spec is None else replace(worker, spec=spec)


def _start(module: Module, turn: Turn, spec: ModuleSpec) -> Worker:
    slot = turn.new_number()
    turn.do(effects.StartWorker(module.name, slot, spec))
    turn.do(effects.SetTimer(TimerKey(module.name, "start", slot), turn.limits.start_timeout_s))
    return Worker(slot, spec)


def _goal(module: Module) -> ModuleSpec | None:
    """Return what has to be made ready beside what runs."""
    wanted = module.wanted
    if wanted is None:
        return None
    if not modules.same(wanted, module.running) and modules.refusal(module, wanted) is None:
        return wanted
    return module.running if module.broken else None


def _prepare(module: Module, turn: Turn) -> Module:
    goal = _goal(module)
    if not modules.same(module.pursued, goal):
        module = _turn_to(module, turn, goal)
    if goal is None:
        return module
    module = _on_new_terms(module, turn, goal)
    module = replace(module, pursued=goal, candidate=_renamed(module.candidate, goal))
    warm = module.warm
    if warm is not None and warm.stage.is_held and modules.same(warm.spec, goal):
        # It passed its check before and is still loaded.
        return switch(_turn_to(module, turn, None), turn, replace(warm, spec=goal))
    if module.job or module.waiting:
        return module
    return _take_the_stage(module, turn, goal)


def _take_the_stage(module: Module, turn: Turn, goal: ModuleSpec) -> Module:
    candidate = module.candidate
    if module.stage is Phase.FETCHING:
        module = replace(module, job=turn.new_number())
        turn.do(effects.Fetch(module.name, goal.bundle, module.job, _terms(module, goal)))
    elif module.stage is Phase.VERIFYING:
        module = replace(module, job=turn.new_number())
        turn.do(effects.Verify(module.name, goal.bundle, module.job))
    elif candidate is None and not turn.testing:
        # One at a time on the whole device, or each would spoil the other's measured latency.
        turn.testing = True
        module = replace(module, candidate=_start(module, turn, goal), trying=goal)
    elif candidate is not None and candidate.stage is Stage.READY:
        turn.do(effects.RunCheck(module.name, candidate.slot))
        key = TimerKey(module.name, "check", candidate.slot)
        turn.do(effects.SetTimer(key, turn.limits.check_timeout_s))
        candidate = replace(candidate, stage=Stage.CHECKING)
        module = replace(module, candidate=candidate, stage=Phase.CHECKING)
    return module


def _terms(module: Module, goal: ModuleSpec) -> Terms:
    """Return the terms on which a bundle is fetched: what runs is mended whatever it takes."""
    return NO_TERMS if modules.same(goal, module.running) else terms.of(goal)


def _on_new_terms(module: Module, turn: Turn, goal: ModuleSpec) -> Module:
    """Return the module with a fetch that is under way on other terms begun anew."""
    before = module.pursued
    if not module.job or module.stage is not Phase.FETCHING or before is None:
        return module
    if _terms(module, before) == _terms(module, goal):
        return module
    turn.do(effects.CancelJob(module.name, module.job))
    return replace(module, job=0)


def _turn_to(module: Module, turn: Turn, goal: ModuleSpec | None) -> Module:
    if module.job:
        turn.do(effects.CancelJob(module.name, module.job))
    if module.candidate is not None:
        module = discard(module, turn, module.candidate, kill=True)
    module = replace(module, **{**_nothing_pursued(), "pursued": goal, "trying": None})
    if goal is None or turn.spread_s == 0.0 or modules.same(goal, module.running):
        return module
    key, first_s = TimerKey(module.name, "retry"), FIRST_SHARE * turn.spread_s
    turn.do(effects.SetTimer(key, turn.spread_s, jitter=True, least_s=first_s))
    return replace(module, waiting=True)


def _nothing_pursued() -> dict[str, object]:
    return {
        "pursued": None,
        "stage": Phase.FETCHING,
        "job": 0,
        "waiting": False,
        "retries": 0,
        "trouble": "",
        "progress": None,
    }


def _hand_over_sources(module: Module, turn: Turn) -> Module:
    active = module.active
    if active is None or active.stage is not Stage.SERVING:
        return module
    others = [worker for worker in modules.workers(module) if worker.slot != active.slot]
    for worker in others:
        if worker.reading is Reading.ON:
            turn.do(effects.StopSources(module.name, worker.slot))
            module = modules.replace_worker(module, replace(worker, reading=Reading.STOPPING))
    if active.reading is Reading.OFF and all(worker.reading is Reading.OFF for worker in others):
        turn.do(effects.StartSources(module.name, active.slot))
        module = replace(module, active=replace(active, reading=Reading.ON))
    return module
