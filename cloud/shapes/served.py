"""Services as the API shows them."""

from cloud.schema import Answer
from cloud.shapes.serving import (
    KeyLimit,
    ServiceGateway,
    ServiceResources,
    ServiceRoute,
    ServiceScale,
    Target,
)


class ServiceKey(Answer):
    """A key of a service."""

    name: str
    limit: KeyLimit | None
    created_at: float
    created_by: str


class ServiceKeyMade(ServiceKey):
    """A new key."""

    key: str
    """Shown this once."""


class ServiceReason(Answer):
    """Why a replica does not answer."""

    code: str
    text: str
    replica: str = ""
    exit_code: int | None = None
    last_log: list[str]


class ServiceTraffic(Answer):
    """What the gateways counted of a revision since they started."""

    requests: int
    errors: int
    p95_ms: float | None
    """None: there were no requests."""
    compared: int
    """Copies whose answers were compared."""
    different: int


class ServiceRevision(Answer):
    """A revision of a service."""

    name: str
    model: str
    version: int
    alias: str | None
    bundle: str
    resources: ServiceResources
    scale: ServiceScale
    env: dict[str, str]
    secrets: list[str]
    """Their names."""
    node_selector: dict[str, str]
    base_image: str | None
    image: str | None
    """None: it is not there yet."""
    created_at: float
    created_by: str
    failed_reason: str
    """Why it was rolled back; "": it was not."""
    weight: int
    """Percent of the traffic that it shall have."""
    running: bool
    """It shall have replicas."""
    condition: str
    """absent, starting, ready, degraded, failing, or unknown."""
    wanted: int
    ready: int
    reasons: list[ServiceReason]
    traffic: ServiceTraffic | None
    """None: the gateways said nothing of it."""


class ServiceRollout(Answer):
    """A take-over that is under way."""

    revisions: list[str]
    """That take over, or (back) are left."""
    goal: dict[str, int]
    strategy: str
    phase: str
    """building, starting, stepping, holding, soaking or failed."""
    step: int | None
    """Percent; None: it has no steps."""
    began: float
    since: float
    back: bool
    """It goes back; `reason` says why."""
    reason: str
    waiting: str
    """What it waits for."""


class Service(Answer):
    """A service, and how it is."""

    name: str
    target: Target
    place: str
    condition: str
    """starting, ready, degraded, failing, unknown, or removing."""
    seen_at: float | None
    """When the target last said so; None: not since the registry started."""
    trouble: str
    """Why the target does not answer, or does not do as it is told; "": it does."""
    reasons: list[ServiceReason]
    endpoints: list[str]
    traffic: dict[str, int]
    """What shall be."""
    mirror: str | None
    mirror_fraction: float
    stable: str | None
    """The revision that is the normal one."""
    previous: str | None
    """The one that `rollback` goes back to."""
    current: str
    """The one that it has, or is about to have."""
    rollout: ServiceRollout | None
    settled: bool
    """What is asked for is done, as far as it is done by itself."""
    generation: int
    in_force: int
    """The generation that all gateways have; 0: none, or not known."""
    gateway: ServiceGateway
    port: int | None
    bind: str
    route: ServiceRoute | None
    created_at: float
    created_by: str
    updated_at: float
    deleted_at: float | None
    revision: int
    """Of this description, for If-Match; not a revision that is served."""


class ServiceDetail(Service):
    """A service with its revisions."""

    revisions: list[ServiceRevision]
    """Newest first; at most 50."""


class ServiceMade(Answer):
    """What came of asking for a service."""

    service: ServiceDetail
    created: bool
    changed: list[str]
    """What is other than before; "revision": there is a new one. None of it and not created: it
    was so already."""
    key: str | None
    """The first key, shown this once; None: none was made."""


class ServiceExport(Answer):
    """A service as files, or what they wait for: then ask again."""

    waiting: str
    """What is being built; "": nothing, and the files are here."""
    files: dict[str, str]
    """By name: all of one directory, for `kubectl apply -k`."""
    left_out: list[str]
    """Confidential files that were not asked for; the directory is not whole without them."""
    key: str | None
    """A first key, shown this once: only its hash is in the files."""


class ServiceFinding(Answer):
    """What came of a check."""

    revision: str
    where: str
    ok: bool
    asked: bool
    """False: it could not be asked, so nothing is known."""
    text: str
    """What was measured, what differed, or why it could not be asked."""


class ServiceFindings(Answer):
    """What came of the checks of a service's revisions."""

    items: list[ServiceFinding]


class ServiceLine(Answer):
    """A line that a replica wrote."""

    replica: str
    text: str
    at: float | None = None


class ServiceLines(Answer):
    """The last lines of each replica."""

    items: list[ServiceLine]


class ServiceRun(Answer):
    """What had which share of a service's traffic, from when to when."""

    id: int
    service: str
    place: str
    revision: str
    model: str
    version: int
    bundle: str
    weight: int
    actor: str
    """Who made the revision."""
    from_at: float
    until_at: float | None
    """None: it has it still."""
    ended_reason: str


class Place(Answer):
    """A place where services run."""

    target: Target
    checked_at: float
    trouble: str
    """Why it could not be asked; "": it could."""
    strays: list[str]
    """Services there that this registry does not know, and leaves alone."""


class Places(Answer):
    """The places where services run."""

    items: list[Place]
