"""Candidates: versions that run beside a module's own to be measured. Rules alone, as in states.py.

A candidate is a module of its own, called `{module}~candidate`, that nobody can ask for: fetched,
verified, checked and remembered like any other, but with rules of its own for what goes wrong, and
without sources, records or a place in the report.

    module  ───────────── running ───────────── answers everybody, or all but a fraction
       │ candidate                                   │ inputs and answers (Mirror)
       └► module~candidate: fetching … running ──────┴─► counts ─► gate ─► promoted | refused
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from edge_agent.mind import effects, faults, gate, kept, modules, plan, trialnames
from edge_agent.mind.events import CandidateCounted
from edge_agent.mind.modules import Link, Module, Stage, Worker
from edge_agent.mind.turn import Turn
from runtime.candidates import Candidate, CandidateReport, Counts, Promote
from runtime.messages import Capture, ModuleReport, ModuleSpec, Phase

Want = Callable[[Module, ModuleSpec | None], Module]


def effective(module: Module, spec: ModuleSpec | None) -> ModuleSpec | None:
    """Return a wish with its candidate as the version, if that was promoted here."""
    candidate = None if spec is None else spec.candidate
    if spec is None or candidate is None or candidate.bundle != module.promoted:
        return spec
    made = {"bundle": candidate.bundle, "model": candidate.model, "version": candidate.version}
    return replace(spec, **made)


def _trial_of(spec: ModuleSpec | None) -> ModuleSpec | None:
    """Return the wish for a candidate's own module; None: there is none to try."""
    candidate = None if spec is None else spec.candidate
    if spec is None or candidate is None or candidate.bundle == spec.bundle:
        return None
    return replace(
        spec,
        name=trialnames.of(spec.name),
        bundle=candidate.bundle,
        model=candidate.model,
        version=candidate.version,
        sources=(),
        capture=Capture(outputs=False),
        soak_s=0.0,
    )


def settle(
    held: Iterable[Module], desired: Iterable[ModuleSpec], turn: Turn, want: Want
) -> tuple[Module, ...]:
    """Return all modules with those of their candidates, each linked to what it is measured by.

    `want` returns a module that shall run something else.
    """
    by_name = {module.name: module for module in held}
    specs = {spec.name: spec for spec in desired}
    for name in sorted(by_name):
        if not trialnames.is_trial(name):
            _settle_one(by_name, name, specs.get(name), turn, want)
    return tuple(by_name[name] for name in sorted(by_name))


def _settle_one(
    by_name: dict[str, Module], name: str, desired: ModuleSpec | None, turn: Turn, want: Want
) -> None:
    module, trial_name = by_name[name], trialnames.of(name)
    if module.promoted is not None and not _is_promoted(module):
        # Nobody asks for it any more; whoever does again has it measured again.
        module = by_name[name] = replace(module, promoted=None, judged=None)
    trial = by_name.get(trial_name)
    refused = modules.refusal(module, module.wanted) if module.wanted is not None else None
    if refused is not None and _is_promoted(module):
        # Promoted, and no good as the version: it is a candidate again, that was refused.
        module = by_name[name] = want(replace(module, promoted=None), desired)
        trial = modules.with_blame(trial or Module(name=trial_name), refused)
    wanted = _trial_of(module.wanted)
    if wanted is None and trial is None:
        return
    trial = want(_cleared(trial or Module(name=trial_name), wanted, turn), wanted)
    by_name[trial_name] = _linked(module, trial, turn)


def _cleared(trial: Module, wanted: ModuleSpec | None, turn: Turn) -> Module:
    """Return the module without what it has of another bundle: nobody needs that meanwhile."""
    known = trial.running or trial.wanted
    if wanted is None or known is None or known.bundle == wanted.bundle:
        return trial
    if trial.job:
        turn.do(effects.CancelJob(trial.name, trial.job))
    for worker in modules.workers(trial):
        if worker not in trial.leaving:
            trial = plan.discard(trial, turn, worker, kill=True)
    if trial.link is not None:
        turn.do(effects.StopMirror(trialnames.parent(trial.name), trial.link.slot))
    return Module(name=trial.name, blames=trial.blames, leaving=trial.leaving)


def _linked(module: Module, trial: Module, turn: Turn) -> Module:
    link = _link(module, trial)
    if link == trial.link:
        return trial
    if trial.link is not None and (link is None or link.slot != trial.link.slot):
        turn.do(effects.StopMirror(module.name, trial.link.slot))
    before = trial.kept
    if before is not None and trial.counts is not None:
        before = replace(before, counts=trial.counts)
    if link is None or module.wanted is None or trial.wanted is None:
        return replace(trial, link=None, kept=before)
    begun = kept.begin(
        before, by=module.wanted.bundle, attempt=trial.wanted.attempt, candidate=link.candidate
    )
    turn.do(effects.Mirror(module.name, link.slot, link.candidate, begun.counts))
    return replace(trial, link=link, kept=begun, counts=begun.counts)


def _link(module: Module, trial: Module) -> Link | None:
    """Return who measures and who is measured; None while the two do not both stand."""
    by, of = _standing(module), _standing(trial)
    if by is None or of is None or trial.wanted is None or trial.wanted.candidate is None:
        return None
    return Link(by.slot, of.slot, trial.wanted.candidate)


def _standing(module: Module) -> Worker | None:
    """Return the process that answers with what is wanted."""
    active = module.active
    stands = active is not None and active.stage is Stage.SERVING
    return active if active and stands and modules.same(active.spec, module.wanted) else None


def counted(
    held: tuple[Module, ...], event: CandidateCounted, turn: Turn, want: Want
) -> tuple[Module, ...]:
    """Take over what was counted, and what follows from it."""
    by_name = {module.name: module for module in held}
    module, trial = by_name.get(event.module), by_name.get(trialnames.of(event.module))
    if module is None or trial is None or trial.link is None or trial.link.slot != event.slot:
        return held
    candidate = trial.link.candidate
    written = trial.kept and kept.take_over(trial.kept, event.counts)
    trial = replace(trial, counts=event.counts, kept=written)
    verdict = gate.judge(candidate, event.counts)
    if verdict.state is gate.State.FAILED and trial.active is not None:
        trial = faults.end_trial(trial, turn, trial.active, verdict.reason)
    elif verdict.state is gate.State.PASSED and candidate.promote is Promote.BY_GATE:
        module = replace(module, promoted=candidate.bundle, judged=event.counts)
        by_name[module.name] = want(module, effective(module, module.wanted))
    by_name[trial.name] = trial
    return tuple(by_name[name] for name in by_name)


@dataclass(frozen=True)
class _Standing:
    """How far a candidate is."""

    state: str
    reason: str
    counts: Counts


def reports(held: Iterable[Module]) -> tuple[ModuleReport, ...]:
    """Return what the registry is told of all modules, candidates within those of their modules."""
    by_name = {module.name: module for module in held}
    told: list[ModuleReport] = []
    for name, module in by_name.items():
        report = None if trialnames.is_trial(name) else modules.report(module)
        if report is None or module.wanted is None:
            continue
        candidate = module.wanted.candidate
        if candidate is not None:
            found = _stands(module, by_name.get(trialnames.of(name)), candidate)
            report = replace(report, candidate=_report(candidate, found))
        told.append(report)
    return tuple(told)


def _is_promoted(module: Module) -> bool:
    """Say whether what is wanted is a candidate that passed its gate here."""
    wanted = module.wanted
    if wanted is None or wanted.candidate is None:
        return False
    return wanted.bundle == wanted.candidate.bundle == module.promoted


def _stands(module: Module, trial: Module | None, candidate: Candidate) -> _Standing:
    if _is_promoted(module):
        return _Standing("promoted", "", module.judged or Counts())
    if trial is None or trial.wanted is None:
        return _Standing(Phase.FETCHING.value, "", Counts())
    counts = trial.counts or (trial.kept.counts if trial.kept else Counts())
    if trial.shown is not Phase.RUNNING:
        return _Standing(trial.shown.value, trial.reason, counts)
    if trial.link is None:
        return _Standing("waiting", "the version that it is measured by does not answer", counts)
    verdict = gate.judge(candidate, counts)
    return _Standing(verdict.state.value, verdict.reason, counts)


def _report(candidate: Candidate, found: _Standing) -> CandidateReport:
    counts = {field: getattr(found.counts, field) for field in Counts.__struct_fields__}
    counts["example"] = found.counts.example[: modules.MAX_REASON_CHARS]
    return CandidateReport(
        bundle=candidate.bundle,
        model=candidate.model,
        version=candidate.version,
        mode=candidate.mode,
        state=found.state,
        reason=found.reason[: modules.MAX_REASON_CHARS],
        **counts,
    )
