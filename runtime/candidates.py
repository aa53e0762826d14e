"""Candidates as they are deployed and reported: the part of runtime.messages that is about them.

A candidate is a version that runs beside a module's own on the device, to be measured against it
before it is trusted. Specified in docs/specs/candidates.md.
"""

import enum
import math

import msgspec

from runtime.digests import Digest
from runtime.errors import InvalidError

MAX_NUMBER = 2**53
MAX_CORES = 1024.0


class Mode(enum.Enum):
    """What a candidate is given."""

    SHADOW = "shadow"
    """Copies of inputs, after their answer has gone out."""
    CANARY = "canary"
    """Requests to answer in the place of the module's own worker."""


class Promote(enum.Enum):
    """Who makes a candidate the version."""

    BY_GATE = "by-gate"
    """The device itself, once its gate is passed."""
    BY_HAND = "by-hand"
    """An operator, with `packhorse deployments promote`."""


class Gate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a candidate must show on the device itself."""

    requests: int = 500
    """So many answers must have been compared."""
    agreement: float = 0.99
    """Of those, this fraction must be alike; an error is a difference."""
    p95_ms: float | None = None
    """Its 95th percentile of latency may be at most this."""
    p95_ratio: float | None = None
    """And at most so many times that of the version that answers."""


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version that runs beside a module's own, to be measured against it."""

    bundle: Digest
    model: str
    version: int
    mode: Mode = Mode.SHADOW
    fraction: float = 1.0
    """Of inputs that it is given, above 0, to 1."""
    cpu: float = 0.5
    """Cores that it may use on average; it is given less while it is over that."""
    memory_mb: int | None = None
    """Resident memory of its worker, MiB; None: what its bundle says."""
    gate: Gate = Gate()
    promote: Promote = Promote.BY_HAND


class Counts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a candidate was seen to do, since it and the module's worker both stood."""

    requests: int = 0
    """Answers of both that were compared, or would have been but for an error."""
    agreed: int = 0
    differed: int = 0
    errors: int = 0
    """Inputs for which the candidate had no answer, or none in time."""
    dropped: int = 0
    """Inputs that it was not given: it did not keep up, or had used its share of the processor."""
    served: int = 0
    """Requests that it answered, in place of the module's own worker."""
    p95_ms: float | None = None
    """Of the candidate, in the model alone; None: not known yet."""
    own_p95_ms: float | None = None
    """Of the version that answers, for the same inputs."""
    example: str = ""
    """The last difference or error."""


class CandidateReport(Counts, frozen=True, omit_defaults=True, kw_only=True):
    """How far a candidate is."""

    bundle: Digest
    model: str
    version: int
    mode: Mode
    state: str
    """fetching, verifying, staged, checking, waiting, measuring, passed, promoted or failed."""
    reason: str = ""


def check(candidate: Candidate, field: str) -> None:
    """Raise InvalidError for a rule that makes no sense, naming it below `field`."""
    gate = candidate.gate
    whole = (
        ("version", candidate.version, 0),
        ("memory_mb", candidate.memory_mb, 1),
        ("gate.requests", gate.requests, 1),
    )
    for name, number, least in whole:
        if number is not None and not least <= number < MAX_NUMBER:
            raise InvalidError(f"{field}.{name}", number, f"give {least} or more")
    if not 0 < candidate.fraction <= 1:
        raise InvalidError(f"{field}.fraction", candidate.fraction, "give more than 0, at most 1")
    if not 0 < candidate.cpu <= MAX_CORES:
        fix = f"give cores, more than 0, at most {MAX_CORES:g}"
        raise InvalidError(f"{field}.cpu", candidate.cpu, fix)
    if not 0 <= gate.agreement <= 1:
        raise InvalidError(f"{field}.gate.agreement", gate.agreement, "give 0 to 1")
    for name, value in (("p95_ms", gate.p95_ms), ("p95_ratio", gate.p95_ratio)):
        if value is not None and not 0 < value < math.inf:
            raise InvalidError(f"{field}.gate.{name}", value, "give more than 0")
