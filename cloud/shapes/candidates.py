"""Candidates of deployments."""

from typing import Annotated, Literal

from pydantic import Field

from cloud.schema import Answer, Request
from cloud.shapes.words import ShortText

Mode = Literal["shadow", "canary"]
Promote = Literal["by-gate", "by-hand"]


class CandidateGate(Request):
    """What a candidate must show on each device itself."""

    requests: int = Field(default=500, ge=1, le=10**9)
    """So many answers must have been compared."""
    agreement: float = Field(default=0.99, ge=0, le=1)
    """Of those, this fraction must be alike; an error is a difference."""
    p95_ms: float | None = Field(default=None, gt=0)
    p95_ratio: float | None = Field(default=None, gt=0)
    """Of the version that answers."""


class CandidateRules(Request):
    """By which rules a candidate is measured."""

    mode: Mode = "shadow"
    """shadow: copies of inputs, after their answer; canary: requests, in the version's place."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    cpu: float = Field(default=0.5, gt=0, le=1024)
    """Cores that it may use on average."""
    memory_mb: int | None = Field(default=None, ge=1, le=2**40)
    gate: CandidateGate = CandidateGate()
    promote: Promote = "by-hand"


class NewCandidate(CandidateRules):
    """A version to run beside a deployment's own, to be measured against it on each device."""

    model: ShortText
    version: Annotated[int, Field(ge=1)] | ShortText | None = None
    """A number, an alias or "latest", as they are now; None: the newest now."""


class ModuleCandidate(CandidateRules):
    """The same for a module of a document."""

    model: ShortText
    """NAME, NAME:VERSION or NAME@ALIAS."""


class Candidate(Answer):
    """A deployment's candidate."""

    model: str
    version: int
    bundle: str
    mode: Mode = "shadow"
    fraction: float = 1.0
    cpu: float = 0.5
    memory_mb: int | None = None
    gate: CandidateGate = CandidateGate()
    promote: Promote = "by-hand"


class CandidateState(Answer):
    """How far a candidate is on a device, as the device reported it."""

    model: str
    version: int
    bundle: str
    mode: str
    state: str
    """fetching, verifying, staged, checking, waiting, measuring, passed, promoted or failed."""
    reason: str = ""
    requests: int = 0
    """Answers compared, errors among them."""
    agreed: int = 0
    differed: int = 0
    errors: int = 0
    dropped: int = 0
    """Inputs that it was not given, to keep its share of the processor."""
    served: int = 0
    """Requests that it answered."""
    p95_ms: float | None = None
    own_p95_ms: float | None = None
    """Of the version that answers, for the same inputs."""
    example: str = ""
    """The last difference or error."""
