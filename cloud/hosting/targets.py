"""Where services run: what a target is told, and what it says of what is there.

    controller ── apply(Wish) ──►  Target  ──►  containers, or pods
               ◄─ observe() ─────          ◄──

A target keeps nothing of its own: what it says is read from the engine or the cluster each time,
where labels mark what is Packhorse's. `apply` is idempotent and takes nothing away that still has
traffic: a replica that goes is first taken out of the gateway, then drained.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from runtime.gateway.config import Config, Status

HTTP_PORT = 8080
"""Of every replica and every gateway, inside its container: inference over HTTP."""
GRPC_PORT = 8081
ADMIN_PORT = 9090
"""Of a gateway: /-/status, /-/ready, /metrics. Never published."""


@dataclass(frozen=True)
class Resources:
    """What one replica may use."""

    cpu: float | None = None
    """Cores; None: no limit."""
    memory_mb: int | None = None
    gpus: int = 0


@dataclass(frozen=True)
class Scale:
    """How many replicas: `least` alone, or between the two by load."""

    least: int = 1
    most: int | None = None
    """None: always `least`. Only a target that scales by itself uses it (Kubernetes)."""
    cpu_percent: int = 80
    """Of the requested CPU, at which it scales out."""


@dataclass(frozen=True)
class RevisionWish:
    """One revision of a service that shall run. Immutable: other settings are another revision."""

    number: int
    """Counted up from 1 within the service; its name is "r" and the number."""
    image: str
    """A reference that the target can run, by digest where there is an image registry."""
    model: str
    version: int
    bundle: str
    """Digest of the bundle."""
    resources: Resources = Resources()
    scale: Scale = Scale()
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """As `env`, but never shown, logged or written where others can read it."""
    node_selector: dict[str, str] = field(default_factory=dict)
    """Kubernetes alone."""

    @property
    def name(self) -> str:
        """What people and the gateway call it."""
        return f"r{self.number}"


@dataclass(frozen=True)
class Place:
    """Which engine or cluster, and where in it."""

    kind: str
    """"docker" or "kubernetes"."""
    host: str | None = None
    """docker: a name from the setting `docker_hosts`; None: the default host."""
    context: str | None = None
    """kubernetes: a context of the registry's kubeconfig; None: the current one, or the cluster in
    which the registry runs."""
    namespace: str | None = None
    """kubernetes; None: that of the context, or "default"."""


@dataclass(frozen=True)
class Wish:
    """All that shall be there of one service."""

    service: str
    generation: int
    """Rises with each change of the wish."""
    revisions: tuple[RevisionWish, ...]
    """Those that shall have replicas; others are removed once they have no traffic."""
    gateway_image: str
    gateway: Config
    """Without backends: the target fills in what it knows of its replicas' addresses."""
    gateway_replicas: int = 1
    port: int | None = None
    """docker: the port on the host; None: one that is free, and the same from then on."""
    bind: str = "127.0.0.1"
    """docker: the address on the host."""
    route: "Route | None" = None


@dataclass(frozen=True)
class Route:
    """How the world reaches the service: kubernetes alone."""

    host: str
    gateway_api: str | None = None
    """NAMESPACE/NAME of the Gateway that an HTTPRoute joins."""
    ingress_class: str | None = None
    """Of an Ingress, if there is no `gateway_api`."""
    tls_secret: str | None = None


class Condition(enum.Enum):
    """How a revision or a whole service is, as the target sees it now."""

    ABSENT = "absent"
    STARTING = "starting"
    """Replicas are being made; nothing is wrong yet."""
    READY = "ready"
    """All replicas that are wanted answer."""
    DEGRADED = "degraded"
    """Some answer, some do not: see the reasons."""
    FAILING = "failing"
    """None answers, and something is wrong: see the reasons."""
    UNKNOWN = "unknown"
    """The target could not be asked."""


@dataclass(frozen=True)
class Reason:
    """Why a replica does not answer, in the target's own word and in ours."""

    code: str
    """"ImagePullBackOff", "CrashLoopBackOff", "Unschedulable", "OOMKilled", "exited"…"""
    text: str
    """What happened and what to do, in one line."""
    replica: str = ""
    exit_code: int | None = None
    last_log: tuple[str, ...] = ()
    """The last lines that it wrote, at most 20."""


@dataclass(frozen=True)
class ObservedRevision:
    """What is there of one revision."""

    number: int
    condition: Condition
    wanted: int
    """Replicas that the target tries to have."""
    ready: int
    image: str = ""
    model: str = ""
    version: int = 0
    bundle: str = ""
    reasons: tuple[Reason, ...] = ()
    drifted: tuple[str, ...] = ()
    """What somebody else changed, by name; `apply` puts it back."""


@dataclass(frozen=True)
class Observed:
    """What is there of one service."""

    service: str
    condition: Condition
    """Of the service as a client meets it: its gateway, and the revisions that have traffic."""
    endpoints: tuple[str, ...] = ()
    """URLs at which clients can reach it."""
    revisions: tuple[ObservedRevision, ...] = ()
    gateway_wanted: int = 0
    gateway_ready: int = 0
    generation: int = 0
    """Of the configuration that all gateways have in force; 0: none."""
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class LogLine:
    """A line that a replica wrote."""

    replica: str
    text: str
    at: float | None = None


@dataclass(frozen=True)
class Question:
    """What a service is asked by the registry itself: a POST of JSON through its gateway."""

    path: str
    """Under the gateway: "/v2/models/churn/versions/3/infer"."""
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """Beside content type and revision; a key goes as X-API-Key, for an API server between keeps
    Authorization to itself."""
    timeout_s: float = 60.0


MAX_REPLY_BYTES = 64 << 20
"""Of a service's answer to the registry."""
REVISION_HEADER = "X-Packhorse-Revision"
"""By which a gateway is told who shall answer, whatever its share of the traffic."""


class Target(Protocol):
    """An engine or a cluster that runs services. Methods may be called from any thread.

    All raise cloud.hosting.errors.TargetError: UnreachableError when waiting helps, RefusedError
    (rights, quota, names) when it does not.
    """

    def apply(self, wish: Wish) -> None:
        """Make what is there like the wish, as far as can be done without waiting for readiness."""
        ...

    def observe(self, service: str) -> Observed:
        """Return what is there; a service of which there is nothing is ABSENT."""
        ...

    def services(self) -> tuple[str, ...]:
        """Return the names of all of which there is something."""
        ...

    def statuses(self, service: str) -> tuple[Status, ...]:
        """Return what each gateway that answers says of itself."""
        ...

    def ask(self, service: str, revision: int, question: Question) -> tuple[int, bytes]:
        """Have a revision answer through one of the service's gateways; return status and body.

        Works from wherever the target can be worked from, whether or not clients are there. Raises
        UnreachableError if there is no gateway yet, or it does not answer.
        """
        ...

    def logs(
        self, service: str, *, revision: int | None, follow: bool, tail: int
    ) -> Iterator[LogLine]:
        """Yield what the replicas wrote, `tail` lines of each, then (`follow`) what they write.

        Closing the iterator ends it.
        """
        ...

    def delete(self, service: str) -> None:
        """Remove exactly what was made for it."""
        ...

    def changes(self) -> Iterator[str]:
        """Yield a service's name each time something of it changes; end when the link breaks.

        Closing the iterator ends it.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
