"""What the owner thread has to do next, as values. Doing one twice does no harm."""

import msgspec

from edge_agent.mind.events import TimerKey
from edge_agent.mind.terms import NO_TERMS, Terms
from runtime.candidates import Candidate, Counts
from runtime.digests import Digest
from runtime.messages import ModuleSpec


class Effect(msgspec.Struct, frozen=True):
    """Anything to do."""


class Fetch(Effect, frozen=True):
    """Bring all blobs of a bundle; answer Fetched, FetchProgress, JobFailed."""

    module: str
    bundle: Digest
    job: int
    terms: Terms = NO_TERMS


class Verify(Effect, frozen=True):
    """Lay out the bundle's files and hash each; answer Verified, JobFailed."""

    module: str
    bundle: Digest
    job: int


class CancelJob(Effect, frozen=True):
    """Stop a fetch or verification; it answers no more."""

    module: str
    job: int


class WorkerEffect(Effect, frozen=True):
    """Anything done to one worker process."""

    module: str
    slot: int


class StartWorker(WorkerEffect, frozen=True):
    """Start a process that loads the bundle; answer WorkerLoaded, WorkerFailed, WorkerExited."""

    spec: ModuleSpec


class RunCheck(WorkerEffect, frozen=True):
    """Answer WorkerChecked."""


class Accept(WorkerEffect, frozen=True):
    """Take traffic; answer WorkerAccepting."""


class Hold(WorkerEffect, frozen=True):
    """Take no more traffic, stay loaded; answer WorkerHeld."""


class StopSources(WorkerEffect, frozen=True):
    """Answer SourcesStopped."""


class StartSources(WorkerEffect, frozen=True):
    """Drain the module's spool first, so that the positions handed over are the last ones."""


class StopWorker(WorkerEffect, frozen=True):
    """End the process; answer WorkerExited."""

    kill: bool = False
    """At once: it serves nobody."""


class Mirror(WorkerEffect, frozen=True):
    """Give inputs to the module's candidate, which stands, and answer CandidateCounted.

    The rules before are forgotten; counting goes on from `counts`.
    """

    candidate: Candidate
    counts: Counts = Counts()


class StopMirror(WorkerEffect, frozen=True):
    """Give the candidate nothing more."""


class SetTimer(Effect, frozen=True):
    """Answer TimerFired after a while."""

    key: TimerKey
    delay_s: float
    jitter: bool = False
    """Wait a random part of the delay: others may be waiting for the same thing."""
    least_s: float = 0.0
    """With jitter: wait no less than this."""


class Report(Effect, frozen=True):
    """Tell the registry now, although nothing has changed."""


class Forget(Effect, frozen=True):
    """Remove what is left of a module: its socket, its spool once it is drained."""

    module: str


class ForgetOthers(Effect, frozen=True):
    """Remove what an agent before, killed in between, left of any modules but these."""

    modules: tuple[str, ...]


class CollectGarbage(Effect, frozen=True):
    """Remove bundles and blobs that nothing needs any more."""
