"""Services: versions served in the cloud."""

from typing import Annotated, Literal

from pydantic import Field

from cloud.schema import Request
from cloud.shapes.words import ShortText

ServiceName = Annotated[
    str, Field(min_length=1, max_length=40, pattern="^[a-z]([a-z0-9-]*[a-z0-9])?$")
]
RevisionName = Annotated[str, Field(pattern="^r[1-9][0-9]{0,8}$", examples=["r3"])]
Percent = Annotated[int, Field(ge=0, le=100)]
Variables = Annotated[
    dict[Annotated[str, Field(max_length=128)], Annotated[str, Field(max_length=32768)]],
    Field(max_length=100),
]
Seconds = Annotated[float, Field(ge=0, le=604800)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Target(Request):
    """Where a service runs."""

    kind: Literal["docker", "kubernetes"]
    host: ShortText | None = None
    """docker: a name from the setting `docker_hosts`; None: the default host."""
    context: ShortText | None = None
    """kubernetes: of the registry's kubeconfig; None: the current one."""
    namespace: ShortText | None = None
    """kubernetes; None: that of the context, or "default"."""


class ServiceResources(Request):
    """What one replica may use."""

    cpu: float | None = Field(default=None, gt=0, le=1024)
    """Cores; None: no limit."""
    memory_mb: int | None = Field(default=None, ge=16, le=16777216)
    gpus: int = Field(default=0, ge=0, le=64)


class ServiceScale(Request):
    """How many replicas of a revision."""

    least: int = Field(default=1, ge=1, le=1000)
    most: int | None = Field(default=None, ge=1, le=1000)
    """kubernetes: scale between the two by load; None: always `least`."""
    cpu_percent: int = Field(default=80, ge=1, le=100)


class ServiceGates(Request):
    """What a canary must keep to; None: not judged."""

    min_requests: int = Field(default=100, ge=1, le=1_000_000_000)
    max_error_rate: Fraction | None = 0.05
    max_error_excess: Fraction | None = 0.02
    """By how much its error rate may be above that of the revisions before."""
    max_p95_ratio: float | None = Field(default=1.5, ge=1, le=1000)


class ServiceStrategy(Request):
    """How a new revision takes over: docs/specs/services.md."""

    kind: Literal["rolling", "blue-green", "canary", "shadow"] = "rolling"
    progress_s: float = Field(default=600.0, gt=0, le=604800)
    soak_s: Seconds = 60.0
    steps: list[Annotated[int, Field(ge=1, le=100)]] = Field(
        default=[10, 50, 100], min_length=1, max_length=20
    )
    step_s: Seconds = 60.0
    gates: ServiceGates = ServiceGates()
    silence_s: Seconds = 600.0
    on_silence: Literal["wait", "promote", "rollback"] = "wait"
    mirror_fraction: Fraction = 1.0


class ServiceCapture(Request):
    """Which requests are kept, with their answers."""

    fraction: Fraction
    max_body_bytes: int = Field(default=65536, ge=0, le=1 << 30)


class ServiceGateway(Request):
    """How a service's gateway treats requests."""

    anonymous: bool = False
    """Let everybody ask, without a key."""
    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    max_body_bytes: int = Field(default=67108864, ge=1, le=1 << 30)
    capture: ServiceCapture | None = None
    replicas: int = Field(default=1, ge=1, le=20)


class ServiceRoute(Request):
    """kubernetes: how the world reaches a service."""

    host: Annotated[str, Field(max_length=253)]
    gateway_api: Annotated[str, Field(max_length=127)] | None = None
    """NAMESPACE/NAME of the Gateway that an HTTPRoute joins."""
    ingress_class: Annotated[str, Field(max_length=253)] | None = None
    tls_secret: Annotated[str, Field(max_length=253)] | None = None


class NewService(Request):
    """Asks for a service, or (with `update`) for another revision of it."""

    name: ServiceName
    model: ShortText
    version: Annotated[int, Field(ge=1)] | ShortText | None = None
    """A number, an alias or "latest", as they are now; None: the newest now."""
    target: Target
    resources: ServiceResources = ServiceResources()
    scale: ServiceScale = ServiceScale()
    env: Variables = Field(default_factory=dict)
    secrets: Variables = Field(default_factory=dict)
    """As `env`, but never shown again."""
    node_selector: dict[ShortText, ShortText] = Field(default_factory=dict)
    base_image: ShortText | None = None
    strategy: ServiceStrategy = ServiceStrategy()
    gateway: ServiceGateway = ServiceGateway()
    port: int | None = Field(default=None, ge=1, le=65535)
    bind: ShortText = "127.0.0.1"
    route: ServiceRoute | None = None
    update: bool = False
    """If there is such a service with another wish: change it, and do not refuse."""


class ServiceChanges(Request):
    """Changes what is given; a change of what makes a revision makes a new one."""

    model: ShortText | None = None
    version: Annotated[int, Field(ge=1)] | ShortText | None = None
    resources: ServiceResources | None = None
    scale: ServiceScale | None = None
    env: Variables | None = None
    secrets: Variables | None = None
    node_selector: dict[ShortText, ShortText] | None = None
    base_image: ShortText | None = None
    strategy: ServiceStrategy = ServiceStrategy()
    gateway: ServiceGateway | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    bind: ShortText | None = None
    route: ServiceRoute | None = None


class NewTraffic(Request):
    """Asks for other shares, or for copies to be sent."""

    weights: Annotated[dict[RevisionName, Percent], Field(max_length=20)] | None = Field(
        default=None, examples=[{"r3": 90, "r4": 10}]
    )
    """Together 100; None: as they are."""
    mirror: RevisionName | Literal["none"] | None = None
    """The revision that is sent copies; "none": no more; None: as it is."""
    mirror_fraction: Fraction | None = None


class NewRollback(Request):
    """Asks to go back."""

    to: RevisionName | None = None
    """None: to where the traffic was before."""


class NewScale(Request):
    """Asks for so many replicas."""

    scale: ServiceScale
    revision: RevisionName | None = None
    """None: of all that run."""


class KeyLimit(Request):
    """A token bucket."""

    per_s: float = Field(gt=0, le=1_000_000)
    burst: int = Field(ge=1, le=1_000_000)


class NewServiceKey(Request):
    """Asks for a key."""

    name: ServiceName
    limit: KeyLimit | None = None


class ExportWish(Request):
    """Asks for a service as files."""

    flavour: Literal["manifests", "kserve"] = "manifests"
    image: ShortText | None = None
    """Of its one revision; None: the registry builds and pushes it."""
    gateway_image: ShortText | None = None
    """None: `image`, or the registry's own."""
    secrets: bool = False
    """With what is confidential, in plain."""


class NewExport(ExportWish):
    """Asks for a service that the registry shall not run, as files."""

    service: NewService


class NewVerification(Request):
    """Asks for a version's check to be run where it is served."""

    revision: RevisionName | None = None
    """None: all that run."""
    timeout_s: float = Field(default=60.0, gt=0, le=300)
    """Of each request to the service."""
