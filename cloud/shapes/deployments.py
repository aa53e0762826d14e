"""Deployments and how far they are."""

from typing import Annotated, Literal

from pydantic import Field

from cloud.schema import Answer, Request
from cloud.shapes.candidates import Candidate, CandidateState, NewCandidate
from cloud.shapes.devices import Running
from cloud.shapes.words import ShortText


class Capture(Request):
    """What of each prediction is recorded."""

    outputs: bool = True
    inputs: float = Field(default=0.0, ge=0, le=1)
    """A fraction."""


class Download(Request):
    """What each device may spend on the download, and when."""

    budget_bytes: int | None = Field(default=None, gt=0, le=1 << 53)
    """In one attempt; None: any."""
    metered: Literal["", "allow"] = ""
    """allow: also over a link that costs by the byte."""
    not_before: float | None = Field(default=None, ge=0)
    """Seconds since 1970."""
    not_after: float | None = Field(default=None, ge=0)


class NewDeployment(Request):
    """Asks for a deployment."""

    model: ShortText
    version: Annotated[int, Field(ge=1)] | ShortText | None = None
    """A number, an alias or "latest", as they are now; None: the newest now."""
    selector: Annotated[str, Field(max_length=2048)]
    module: ShortText | None = None
    """None: called like the model."""
    sources: list[Annotated[str, Field(max_length=1024)]] | None = None
    """None: what the bundle says."""
    capture: Capture = Capture()
    soak_s: float = Field(default=30.0, ge=0, le=86400)
    name: ShortText = ""
    candidate: NewCandidate | None = None
    """What runs beside it on each device, to be measured."""
    download: Download = Download()


class Deployment(Answer):
    """A deployment."""

    id: str
    name: str
    model: str
    version: int
    alias: str | None = None
    """By which the version was named; it may have moved since."""
    bundle: str
    module: str
    selector: str
    sources: list[str] | None
    capture: Capture
    soak_s: float
    candidate: Candidate | None = None
    download: Download = Download()
    attempt: int
    created_at: float
    created_by: str
    cancelled_at: float | None


class Overview(Answer):
    """How far a deployment is, over all devices that it selects now."""

    selected: int
    healthy: int
    """Said that they run it, and are heard of."""
    by_stage: dict[str, int]
    by_presence: dict[str, int]
    complete: bool
    """Every device that it decides has said that it runs this; never with none at all."""
    settled: bool
    """Every such device runs this or gave up."""


class DeviceProgress(Answer):
    """Where one device is with a deployment."""

    device: str
    stage: str
    reason: str
    age_s: float | None
    """How long ago it last reported."""
    presence: str
    running: Running | None
    generation_lag: int
    retrying: bool
    healthy: bool
    candidate: CandidateState | None = None


class DeploymentDetail(Answer):
    """A deployment, how far it is, and a part of its devices by id."""

    deployment: Deployment
    overview: Overview
    devices: list[DeviceProgress]
    next: str | None = None
