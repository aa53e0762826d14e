"""What follows when something of a module goes wrong.

what fails                       consequence
──────────────────────────────   ───────────────────────────────────────────────────────────
network, disk, damaged bytes     tried again for ever, ever more slowly
window shut, link metered        looked at again when that may have changed
budget spent                     refused until it is raised or the deployment retried
load, check, limit, time-out     the candidate's bundle is refused; the old version runs on
the container engine is away     tried again for ever; nothing is held against the bundle
candidate dies without a word    tried again; refused after `crash_limit` deaths
worker dies while the one        the old one takes the traffic back at once; the new one is
before is still warm             tried again; refused after `crash_limit` crashes
worker dies later                restarted: at once, then ever more slowly; after
                                 `crash_limit` crashes the version before comes back, if any
the device restarts in a trial   counted as a crash of what was being tried
anything of a shadow or canary   that is ended and refused; its module never notices
"""

from msgspec.structs import replace

from edge_agent.mind import effects, modules, plan, trialnames, warming
from edge_agent.mind.events import JobFailed, TimerKey, WorkerExited
from edge_agent.mind.modules import Module, Stage, Worker
from edge_agent.mind.turn import Turn
from runtime.messages import ModuleSpec, Phase

BLAMELESS_S = 5.0
"""Before another try of what failed through no fault of its own."""
REBOOTED = "the device restarted while it was being tried"


def refuse(
    module: Module,
    turn: Turn,
    spec: ModuleSpec,
    reason: str,
    *,
    budget_bytes: int | None = None,
) -> Module:
    """Return the module that never tries this attempt of a bundle again, and says why.

    `budget_bytes` is the budget that was spent, if that is why.
    """
    blame = modules.blame_of(module, spec)
    blame = replace(blame, reason=reason, refused=True, budget_bytes=budget_bytes)
    turn.do(effects.CollectGarbage())
    return modules.with_blame(module, blame)


def job_failed(module: Module, turn: Turn, event: JobFailed) -> Module:
    """Plan the next try of a fetch or verification, or refuse the bundle."""
    module, pursued = replace(module, job=0), module.pursued
    if pursued is None:
        return module
    if event.retryable:
        return _again(module, turn, event)
    if modules.same(pursued, module.running):
        # The files of what runs cannot be mended; restarting it goes on.
        return replace(module, broken=False)
    return refuse(module, turn, pursued, event.text, budget_bytes=event.budget_bytes)


def _again(module: Module, turn: Turn, event: JobFailed) -> Module:
    key = TimerKey(module.name, "retry")
    if event.wait_s is not None:
        turn.do(effects.SetTimer(key, event.wait_s))
        return replace(module, waiting=True, trouble=event.text)
    turn.do(effects.SetTimer(key, plan.backoff_s(module.retries), jitter=True))
    return replace(
        module,
        waiting=True,
        retries=module.retries + 1,
        trouble=event.text,
        stage=Phase.FETCHING if event.refetch else module.stage,
    )


def worker_failed(module: Module, turn: Turn, worker: Worker, text: str) -> Module:
    """Deal with a worker that is no good: it cannot load, fails its check, takes too long."""
    if trialnames.is_trial(module.name) and worker not in module.leaving:
        return end_trial(module, turn, worker, text)
    before, module = module, plan.discard(module, turn, worker, kill=True)
    if _is(before.candidate, worker):
        return refuse(module, turn, worker.spec, text)
    if _is(before.active, worker):
        # It was good once, so perhaps its files are not any more.
        return _active_lost(replace(module, broken=True), turn, worker.spec, text)
    return module


def too_late(module: Module, turn: Turn, key: TimerKey) -> Module:
    """Return what follows when a worker's time to load or to be checked is over."""
    expected = {"start": Stage.STARTING, "check": Stage.CHECKING}[key.kind]
    for worker in (module.active, module.candidate):
        if worker is not None and worker.slot == key.slot and worker.stage is expected:
            text = warming.too_late(worker, turn.limits)
            return worker_failed(module, turn, worker, text)
    return module


def worker_exited(module: Module, turn: Turn, worker: Worker, event: WorkerExited) -> Module:
    """Deal with a process that has ended."""
    before, module, text = module, plan.without(module, worker.slot), event.text
    if trialnames.is_trial(module.name):
        return _trial_exited(module, turn, worker, text, told=worker in before.leaving)
    if _is(before.candidate, worker):
        if event.blameless and not event.final:
            turn.do(effects.SetTimer(TimerKey(module.name, "retry"), BLAMELESS_S))
            again = replace(module, stage=Phase.STAGED, waiting=True, trying=None)
            return replace(again, trouble=text)
        return _candidate_lost(module, turn, worker.spec, text, final=event.final)
    if _is(before.active, worker):
        if event.blameless:
            turn.do(effects.SetTimer(TimerKey(module.name, "restart"), BLAMELESS_S))
            return replace(module, resting=True, trouble=module.trouble or text)
        return _active_lost(module, turn, worker.spec, text)
    return module


def end_trial(module: Module, turn: Turn, worker: Worker, text: str) -> Module:
    """End a shadow's or canary's worker, and never try that bundle again in this attempt."""
    module = plan.discard(module, turn, worker, kill=True)
    return refuse(replace(module, running=None, broken=False), turn, worker.spec, text)


def device_restarted(module: Module, turn: Turn) -> Module:
    """Count a restart of the whole device against what it was trying at that time."""
    trying, running = module.trying, module.running
    module = replace(module, trying=None)
    if trying is not None:
        module = _count(module, turn, trying, REBOOTED)
        if _looping(module, turn, trying):
            module = refuse(module, turn, trying, modules.blame_of(module, trying).reason)
    if running is not None and not module.proven:
        module = _count(module, turn, running, REBOOTED)
        before = _usable_previous(module)
        if trialnames.is_trial(module.name) and _looping(module, turn, running):
            reason = modules.blame_of(module, running).reason
            module = refuse(replace(module, running=None), turn, running, reason)
        elif before is not None and _looping(module, turn, running):
            module = _step_back(module, turn, before, running)
    return module


def _trial_exited(module: Module, turn: Turn, worker: Worker, text: str, *, told: bool) -> Module:
    """Refuse a shadow or canary that has ended without being told to."""
    return module if told else refuse(replace(module, running=None), turn, worker.spec, text)


def _candidate_lost(
    module: Module, turn: Turn, spec: ModuleSpec, text: str, *, final: bool
) -> Module:
    if final:
        return refuse(module, turn, spec, text)
    module = _count(module, turn, spec, text)
    if _looping(module, turn, spec):
        return refuse(module, turn, spec, modules.blame_of(module, spec).reason)
    return _try_once_more(module, turn, spec)


def _active_lost(module: Module, turn: Turn, spec: ModuleSpec, text: str) -> Module:
    module = _count(replace(module, restarts=module.restarts + 1), turn, spec, text)
    before = _usable_previous(module)
    if before is not None and not module.proven:
        return _step_back(module, turn, before, spec)
    if before is not None and _looping(module, turn, spec):
        return _step_back(module, turn, before, spec)
    crashes = modules.blame_of(module, spec).crashes
    if crashes > 1:
        key = TimerKey(module.name, "restart")
        turn.do(effects.SetTimer(key, plan.backoff_s(crashes - 2)))
    return replace(module, resting=crashes > 1)


def _usable_previous(module: Module) -> ModuleSpec | None:
    """Return what can be gone back to: what is still loaded, or what is on the disk."""
    if module.warm is not None:
        return module.warm.spec
    previous = module.previous
    refused = previous is not None and modules.refusal(module, previous) is not None
    return None if refused else previous


def _step_back(module: Module, turn: Turn, before: ModuleSpec, lost: ModuleSpec) -> Module:
    """Let the version before have the traffic again; it starts if it is not still loaded."""
    module = replace(
        module,
        active=module.warm,
        warm=None,
        running=before,
        previous=None,
        proven=True,
        resting=False,
        broken=False,
    )
    if _looping(module, turn, lost):
        return refuse(module, turn, lost, modules.blame_of(module, lost).reason)
    if module.pursued is None and modules.same(module.wanted, lost):
        return _try_once_more(replace(module, pursued=lost), turn, lost)
    return module


def _try_once_more(module: Module, turn: Turn, spec: ModuleSpec) -> Module:
    """Start another candidate: at once after the first crash, then ever more slowly."""
    blame = modules.blame_of(module, spec)
    if blame.crashes > 1:
        key = TimerKey(module.name, "retry")
        turn.do(effects.SetTimer(key, plan.backoff_s(blame.crashes - 2)))
    return replace(
        module, stage=Phase.STAGED, waiting=blame.crashes > 1, trouble=blame.reason, trying=None
    )


def _is(held: Worker | None, worker: Worker) -> bool:
    return held is not None and held.slot == worker.slot


def _looping(module: Module, turn: Turn, spec: ModuleSpec) -> bool:
    return modules.blame_of(module, spec).crashes >= turn.limits.crash_limit


def _count(module: Module, turn: Turn, spec: ModuleSpec, text: str) -> Module:
    blame = modules.blame_of(module, spec)
    crashes = blame.crashes + 1
    if crashes >= turn.limits.crash_limit:
        text = (
            f"crash loop: {crashes} crashes without {turn.limits.stable_s:.0f} s of stable"
            f" running between; the last: {text}"
        )
    return modules.with_blame(module, replace(blame, crashes=crashes, reason=text))
