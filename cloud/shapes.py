"""What the HTTP API takes and gives, as both its sides see it: see cloud.schema.

Times are seconds since 1970 (UTC).
"""

from typing import Annotated, Any

from pydantic import Field

from cloud.schema import Answer, Request

ShortText = Annotated[str, Field(max_length=256)]
Labels = dict[ShortText, ShortText]


class Version(Answer):
    """A registered version of a model."""

    model: str
    version: int
    bundle: str
    size_bytes: int
    created_at: float
    created_by: str
    description: str
    tags: dict[str, str]


class Registered(Version):
    """The answer to a registration."""

    created: bool
    """False: the newest version has this content already, and this is it."""


class Model(Answer):
    """A model."""

    name: str
    versions: int
    latest: Version


class BlobStored(Answer):
    """The answer to an upload."""

    sha256: str
    size_bytes: int


class NewToken(Request):
    """Asks for an enrolment token."""

    labels: Labels = Field(default_factory=dict)
    ttl_s: float = Field(default=3600, gt=0, le=7 * 86400)
    device_id: ShortText | None = None
    """The one id that it may enrol; None: any new one."""


class Token(Answer):
    """An enrolment token; this is the only time that it is shown."""

    token: str
    device_id: str | None
    labels: dict[str, str]
    expires_at: float


class Enrol(Request):
    """A device asks to be let in."""

    token: ShortText
    csr: Annotated[str, Field(max_length=16 * 1024)]
    """PEM."""
    device_id: ShortText | None = None
    facts: Labels = Field(default_factory=dict)


class BrokerAddress(Answer):
    """Where to connect to for MQTT."""

    host: str
    port: int


class Enrolled(Answer):
    """A device is let in."""

    device: str
    certificate: str
    """PEM."""
    ca: str
    """PEM."""
    broker: BrokerAddress
    registry_url: str
    certificate_not_after: float


class LabelChanges(Request):
    """Labels to set; None removes one."""

    labels: dict[ShortText, ShortText | None]


class Running(Answer):
    """What answers inference on a device."""

    bundle: str
    model: str
    version: int


class ModuleState(Answer):
    """A module, as its device reported it."""

    name: str
    phase: str
    model: str
    version: int
    bundle: str
    deployment: str
    since: float
    """Device clock."""
    reason: str = ""
    retrying: bool = False
    restarts: int = 0
    running: Running | None = None


class Device(Answer):
    """A device."""

    id: str
    labels: dict[str, str]
    facts: dict[str, str]
    presence: str
    """online, offline or unknown."""
    last_seen: float | None
    created_at: float
    revoked_at: float | None
    certificate_not_after: float
    generation: int
    """Of its desired state."""
    reported_generation: int
    reported_at: float | None
    modules: list[ModuleState]
    vitals: dict[str, float]
    drops: dict[str, int]
    troubles: list[str]


class Capture(Request):
    """What of each prediction is recorded."""

    outputs: bool = True
    inputs: float = Field(default=0.0, ge=0, le=1)
    """A fraction."""


class NewDeployment(Request):
    """Asks for a deployment."""

    model: ShortText
    version: int | None = Field(default=None, ge=1)
    """None: the newest now."""
    selector: Annotated[str, Field(max_length=2048)]
    module: ShortText | None = None
    """None: called like the model."""
    sources: list[Annotated[str, Field(max_length=1024)]] | None = None
    """None: what the bundle says."""
    capture: Capture = Capture()
    soak_s: float = Field(default=30.0, ge=0, le=86400)
    name: ShortText = ""


class Deployment(Answer):
    """A deployment."""

    id: str
    name: str
    model: str
    version: int
    bundle: str
    module: str
    selector: str
    sources: list[str] | None
    capture: Capture
    soak_s: float
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


class DeploymentDetail(Answer):
    """A deployment, how far it is, and a part of its devices by id."""

    deployment: Deployment
    overview: Overview
    devices: list[DeviceProgress]
    next: str | None = None


class Record(Answer):
    """One prediction."""

    id: int
    """Rises in the order of arrival."""
    device: str
    at: float
    """When it was made: by the device's clock, or the registry's estimate."""
    time_estimated: bool
    """The device had no valid clock."""
    module: str
    bundle: str
    model: str
    version: int
    latency_ms: float
    outputs: dict[str, Any] | None
    inputs: dict[str, Any] | None
    request: str | None
    source: str | None
    item: str | None
    error: str | None
    kind: str


class VersionStats(Answer):
    """What one version did, over all devices."""

    model: str
    version: int
    records: int
    devices: int
    errors: int
    latency_mean_ms: float
    latency_p50_ms: float
    latency_p95_ms: float
    first_at: float
    last_at: float


class ModelStats(Answer):
    """What each version of a model did."""

    model: str
    versions: list[VersionStats]


class Event(Answer):
    """A line of the history."""

    id: int
    at: float
    actor: str
    kind: str
    subject: str
    data: dict[str, Any]


class Health(Answer):
    """Whether the registry does its work."""

    status: str
    """ok or failing."""
    duties: dict[str, bool]
