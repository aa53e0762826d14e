"""What the agent knows of one module: what it shall run, what it runs, and what went wrong.

The upper half of Module is durable (`saved` and `restored`); the lower half is true for this life
of the agent only. Nothing here does anything: rules are in plan.py, faults.py and states.py.
"""

import enum

import msgspec

from edge_agent.mind.kept import Kept
from runtime.candidates import Candidate, Counts
from runtime.digests import Digest
from runtime.messages import ModuleReport, ModuleSpec, Phase, Progress, RunningVersion, Transfer

MAX_BLAMES = 16
"""How many failures are remembered for each module; the oldest is forgotten first."""
MAX_REASON_CHARS = 1000
"""Of a reason that is kept or reported: it may hold what a bundle's own code wrote."""


class Stage(enum.Enum):
    """How far a worker process is."""

    STARTING = "starting"
    READY = "ready"
    """The model is loaded."""
    CHECKING = "checking"
    ACCEPTING = "accepting"
    """Told to take traffic, has not said that it does."""
    SERVING = "serving"
    YIELDING = "yielding"
    """Told to take no more traffic, has not said that it takes none."""
    HELD = "held"
    """Loaded, but takes no traffic."""
    RESTING = "resting"
    """Stopped while another is tried; serves again by itself if that one is no good."""

    @property
    def is_held(self) -> bool:
        """Whether it was told to take no traffic."""
        return self is Stage.YIELDING or self is Stage.HELD


class Reading(enum.Enum):
    """Whether a worker reads the module's sources; at most one worker of a module does."""

    OFF = "off"
    ON = "on"
    STOPPING = "stopping"


class Worker(msgspec.Struct, frozen=True):
    """One worker process: its slot number is its own for the life of the agent."""

    slot: int
    spec: ModuleSpec
    stage: Stage = Stage.STARTING
    reading: Reading = Reading.OFF
    warming: bool = False
    """It builds an engine while it loads."""
    waits_for: str = ""
    """What it says it waits for."""


class Link(msgspec.Struct, frozen=True):
    """A worker that mirrors its inputs to a candidate, and by which rules."""

    slot: int
    trial: int
    """The candidate's own slot."""
    candidate: Candidate


class Blame(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one bundle, in one attempt, has done wrong."""

    bundle: Digest
    attempt: int
    crashes: int = 0
    """Since it last stood stable."""
    reason: str = ""
    """The last thing that went wrong."""
    refused: bool = False
    """Not tried again unless a higher attempt asks for it."""
    budget_bytes: int | None = None
    """Refused because this budget was spent: a larger one forgives it."""


class Saved(msgspec.Struct, frozen=True, omit_defaults=True):
    """The durable half of a module."""

    name: str
    wanted: ModuleSpec | None = None
    running: ModuleSpec | None = None
    previous: ModuleSpec | None = None
    blames: tuple[Blame, ...] = ()
    proven: bool = False
    trying: ModuleSpec | None = None
    promoted: Digest | None = None
    kept: Kept | None = None


class Module(msgspec.Struct, frozen=True):
    """All that is known of one module."""

    name: str
    wanted: ModuleSpec | None = None
    """What it shall run; None: it is being removed."""
    running: ModuleSpec | None = None
    """What serves, or does so again after a restart: it has passed its check."""
    previous: ModuleSpec | None = None
    """What ran before and can be rolled back to."""
    blames: tuple[Blame, ...] = ()
    proven: bool = False
    """Whether `running` has stood stable since it was switched to."""
    trying: ModuleSpec | None = None
    """What a candidate is being started from; survives a device that dies of it."""
    promoted: Digest | None = None
    """The bundle of `wanted.candidate` that passed its gate here, and is the version now."""
    kept: Kept | None = None
    """Of a candidate's module: what was counted, and is not forgotten."""

    active: Worker | None = None
    """The process for `running`."""
    candidate: Worker | None = None
    """The process that shall take over if it passes the check."""
    warm: Worker | None = None
    """The process of `previous`, until the soak time is over."""
    leaving: tuple[Worker, ...] = ()
    """Processes that were told to stop and have not yet ended."""
    pursued: ModuleSpec | None = None
    """What `stage` is about."""
    stage: Phase = Phase.FETCHING
    """Where `pursued` is: fetching, verifying, staged or checking."""
    job: int = 0
    """Number of the fetch or verification under way; 0: none."""
    waiting: bool = False
    """A timer will try the present stage again."""
    resting: bool = False
    """A timer will start `running` again."""
    broken: bool = False
    """`running` could not be loaded: its files are looked at again."""
    retries: int = 0
    trouble: str = ""
    """Why the present stage has to be tried again."""
    progress: Progress | None = None
    transfer: Transfer | None = None
    """What bringing `wanted` has cost, once it is here."""
    restarts: int = 0
    shown: Phase = Phase.FETCHING
    """What is reported; since when, and why."""
    since: float = 0.0
    reason: str = ""
    retrying: bool = False
    link: Link | None = None
    """Of a candidate's module: who measures it now."""
    counts: Counts | None = None
    """Of a candidate's module: what was seen of it."""
    judged: Counts | None = None
    """What was seen of the candidate that was promoted."""


def saved(module: Module) -> Saved:
    """Return what of a module must survive."""
    return Saved(**{field: getattr(module, field) for field in Saved.__struct_fields__})


def restored(saved: Saved) -> Module:
    """Return a module as it is when the agent starts: no process, nothing under way."""
    return Module(**{field: getattr(saved, field) for field in Saved.__struct_fields__})


def same(one: ModuleSpec | None, other: ModuleSpec | None) -> bool:
    """Say whether a worker for the one does as a worker for the other."""
    return one is other or (one is not None and other is not None and _key(one) == _key(other))


def _key(spec: ModuleSpec) -> tuple[object, ...]:
    return (spec.bundle, spec.model, spec.version, spec.sources, spec.capture)


def workers(module: Module) -> tuple[Worker, ...]:
    """Return every process of a module that has not ended."""
    held = (module.active, module.candidate, module.warm)
    return (*(worker for worker in held if worker is not None), *module.leaving)


def replace_worker(module: Module, worker: Worker) -> Module:
    """Return the module with a worker's new state in the place where that worker is."""
    for role in ("active", "candidate", "warm"):
        held: Worker | None = getattr(module, role)
        if held is not None and held.slot == worker.slot:
            return msgspec.structs.replace(module, **{role: worker})
    leaving = tuple(worker if old.slot == worker.slot else old for old in module.leaving)
    return msgspec.structs.replace(module, leaving=leaving)


def refusal(module: Module, spec: ModuleSpec) -> Blame | None:
    """Return why this bundle is not tried, or None if it may be."""
    return next(
        (
            blame
            for blame in module.blames
            if blame.refused
            and blame.bundle == spec.bundle
            and blame.attempt >= spec.attempt
            and not _outbid(blame.budget_bytes, spec.budget_bytes)
        ),
        None,
    )


def _outbid(spent: int | None, offered: int | None) -> bool:
    """Say whether a budget allows more than the one that was spent."""
    return spent is not None and (offered is None or offered > spent)


def blame_of(module: Module, spec: ModuleSpec) -> Blame:
    """Return what this bundle, in this attempt, has done wrong so far."""
    for blame in module.blames:
        if blame.bundle == spec.bundle and blame.attempt == spec.attempt:
            return blame
    return Blame(bundle=spec.bundle, attempt=spec.attempt)


def with_blame(module: Module, blame: Blame) -> Module:
    """Return the module remembering this instead of what it held against that bundle before."""
    others = _others(module, blame.bundle, blame.attempt)
    blame = msgspec.structs.replace(blame, reason=blame.reason[:MAX_REASON_CHARS])
    return msgspec.structs.replace(module, blames=(*others, blame)[-MAX_BLAMES:])


def forgiven(module: Module, bundle: Digest) -> Module:
    """Return the module with the crashes of a bundle forgotten, though not its refusals."""
    left = tuple(blame for blame in module.blames if blame.refused or blame.bundle != bundle)
    return msgspec.structs.replace(module, blames=left)


def _others(module: Module, bundle: Digest, attempt: int) -> tuple[Blame, ...]:
    return tuple(
        blame for blame in module.blames if (blame.bundle, blame.attempt) != (bundle, attempt)
    )


def answering(module: Module) -> ModuleSpec | None:
    """Return what answers inference at this moment; of two, the one that is about to end."""
    for worker in (*module.leaving, module.warm):
        if worker is not None and worker.stage is Stage.YIELDING:
            return worker.spec
    for worker in (module.active, module.warm):
        if worker is not None and worker.stage is Stage.SERVING:
            return worker.spec
    return None


def bundles_in_use(module: Module) -> set[Digest]:
    """Return the bundles whose files must stay on the disk."""
    specs = [module.wanted, module.running, module.previous, module.pursued]
    specs += [worker.spec for worker in workers(module)]
    return {spec.bundle for spec in specs if spec is not None}


def report(module: Module) -> ModuleReport | None:
    """Return what the registry is told; None while the module is being removed."""
    wanted = module.wanted
    if wanted is None:
        return None
    answers = answering(module)
    return ModuleReport(
        name=module.name,
        phase=module.shown,
        bundle=wanted.bundle,
        model=wanted.model,
        version=wanted.version,
        deployment=wanted.deployment,
        since=module.since,
        reason=module.reason[:MAX_REASON_CHARS],
        retrying=module.retrying,
        attempt=wanted.attempt,
        running=_version(answers),
        progress=module.progress if module.shown is Phase.FETCHING else None,
        restarts=module.restarts,
        transfer=module.transfer,
    )


def _version(spec: ModuleSpec | None) -> RunningVersion | None:
    return None if spec is None else RunningVersion(spec.bundle, spec.model, spec.version)
