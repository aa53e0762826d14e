"""What an operator asks of a service, and whether it can be."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from cloud.hosting import strategies
from cloud.hosting.strategies import Strategy
from cloud.hosting.targets import Place, Resources, Route, Scale
from runtime.errors import InvalidError
from runtime.gateway.config import Capture

DOCKER, KUBERNETES = "docker", "kubernetes"
MAX_NAME_CHARS = 40
MAX_CPU, MAX_MEMORY_MB, MAX_GPUS, MAX_REPLICAS = 1024.0, 1 << 24, 64, 1000
MIN_MEMORY_MB = 16
MAX_ENV, MAX_ENV_BYTES = 100, 32 * 1024
MAX_BODY_BYTES = 1 << 30
MAX_TIMEOUT_S = 3600.0
MAX_GATEWAYS = 20

_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9-]{1,63}")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_RESERVED = "PACKHORSE_"


class GatewaySettings(msgspec.Struct, frozen=True):
    """How a service's gateway shall treat requests."""

    anonymous: bool = False
    """Let everybody ask, without a key."""
    timeout_s: float = 60.0
    max_body_bytes: int = 64 * 1024 * 1024
    capture: Capture | None = None
    replicas: int = 1
    """kubernetes alone."""


@dataclass(frozen=True)
class RevisionSpec:
    """What makes a revision what it is."""

    model: str
    version: int | str | None = None
    """A number, an alias or "latest"; None: the newest."""
    resources: Resources = field(default_factory=Resources)
    scale: Scale = field(default_factory=Scale)
    """The one thing that may change later."""
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    base_image: str | None = None


@dataclass(frozen=True)
class ServiceSpec:
    """All that is asked of one service."""

    name: str
    place: Place
    revision: RevisionSpec
    strategy: Strategy = field(default_factory=Strategy)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    port: int | None = None
    bind: str = "127.0.0.1"
    route: Route | None = None


def check(spec: ServiceSpec, *, docker_hosts: Mapping[str, str]) -> None:
    """Raise InvalidError, naming the field, for what cannot be."""
    check_name(spec.name)
    strategies.check(spec.strategy)
    _check_place(spec.place, docker_hosts)
    _check_revision(spec.revision, spec.place.kind)
    _check_gateway(spec.gateway, spec.place.kind)
    _check_ways_in(spec)


def check_name(name: str) -> str:
    """Return a name that a service may have."""
    if len(name) > MAX_NAME_CHARS or not _NAME.fullmatch(name):
        fix = f"use 1 to {MAX_NAME_CHARS} of a-z, 0-9 and '-', beginning with a letter"
        raise InvalidError("name", name, fix)
    return name


def check_image(field_name: str, reference: str) -> str:
    """Return what may be the reference of an image."""
    if not _IMAGE.fullmatch(reference):
        raise InvalidError(field_name, reference, "give a reference such as NAME:TAG")
    return reference


def _check_place(place: Place, docker_hosts: Mapping[str, str]) -> None:
    if place.kind not in {DOCKER, KUBERNETES}:
        raise InvalidError("target.kind", place.kind, f"use {DOCKER!r} or {KUBERNETES!r}")
    if place.kind == DOCKER:
        _refuse_given("kubernetes", context=place.context, namespace=place.namespace)
        if place.host is not None and place.host not in docker_hosts:
            known = ", ".join(sorted(docker_hosts)) or "none"
            fix = f"name one of the registry's docker_hosts: {known}"
            raise InvalidError("target.host", place.host, fix)
        return
    _refuse_given("docker", host=place.host)
    if place.namespace is not None and not _DNS_LABEL.fullmatch(place.namespace):
        fix = "use 1 to 63 of a-z, 0-9 and '-'"
        raise InvalidError("target.namespace", place.namespace, fix)


def _refuse_given(kind: str, **values: object) -> None:
    for field_name, value in values.items():
        if value is not None:
            fix = f"leave it out: only {kind} knows it"
            raise InvalidError(f"target.{field_name}", value, fix)


def check_scale(scale: Scale, resources: Resources, kind: str) -> Scale:
    """Return how many replicas there may be."""
    if not 1 <= scale.least <= MAX_REPLICAS:
        raise InvalidError("scale.least", scale.least, f"give 1 to {MAX_REPLICAS}")
    if scale.most is None:
        return scale
    if kind != KUBERNETES:
        raise InvalidError("scale.most", scale.most, "leave it out: only kubernetes scales by load")
    if not scale.least <= scale.most <= MAX_REPLICAS:
        fix = f"give {scale.least} (scale.least) to {MAX_REPLICAS}"
        raise InvalidError("scale.most", scale.most, fix)
    if not 1 <= scale.cpu_percent <= 100:  # noqa: PLR2004 - percent
        raise InvalidError("scale.cpu_percent", scale.cpu_percent, "give 1 to 100")
    if resources.cpu is None:
        raise InvalidError("resources.cpu", None, "say how many cores: scaling goes by their use")
    return scale


def _check_revision(spec: RevisionSpec, kind: str) -> None:
    resources = spec.resources
    if resources.cpu is not None and not 0 < resources.cpu <= MAX_CPU:
        raise InvalidError("resources.cpu", resources.cpu, f"give cores, up to {MAX_CPU:.0f}")
    memory = resources.memory_mb
    if memory is not None and not MIN_MEMORY_MB <= memory <= MAX_MEMORY_MB:
        raise InvalidError("resources.memory_mb", memory, f"give MiB, from {MIN_MEMORY_MB} on")
    if not 0 <= resources.gpus <= MAX_GPUS:
        raise InvalidError("resources.gpus", resources.gpus, f"give 0 to {MAX_GPUS}")
    check_scale(spec.scale, resources, kind)
    _check_variables(spec)
    if spec.base_image is not None:
        check_image("base_image", spec.base_image)
    if spec.node_selector and kind != KUBERNETES:
        fix = "leave it out: only kubernetes knows nodes"
        raise InvalidError("node_selector", dict(spec.node_selector), fix)
    for key, value in spec.node_selector.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise InvalidError("node_selector", f"{key}={value}", "give labels of nodes")


def _check_variables(spec: RevisionSpec) -> None:
    """Check names and sizes; what a secret is, no message shows."""
    for field_name, given in (("env", spec.env), ("secrets", spec.secrets)):
        if len(given) > MAX_ENV:
            raise InvalidError(field_name, f"{len(given)} variables", f"give at most {MAX_ENV}")
        for name, value in given.items():
            if not _ENV.fullmatch(name) or name.startswith(_RESERVED):
                fix = f"use letters, digits and '_', not beginning with a digit or {_RESERVED}"
                raise InvalidError(field_name, name, fix)
            if len(value.encode()) > MAX_ENV_BYTES or "\0" in value:
                fix = f"give at most {MAX_ENV_BYTES} bytes, without NUL"
                raise InvalidError(f"{field_name}.{name}", f"{len(value)} characters", fix)
    both = spec.env.keys() & spec.secrets.keys()
    if both:
        raise InvalidError("secrets", min(both), "it is in env too: give it once")


def _check_gateway(gateway: GatewaySettings, kind: str) -> None:
    if not 0 < gateway.timeout_s <= MAX_TIMEOUT_S:
        fix = f"give up to {MAX_TIMEOUT_S:.0f} seconds"
        raise InvalidError("gateway.timeout_s", gateway.timeout_s, fix)
    if not 1 <= gateway.max_body_bytes <= MAX_BODY_BYTES:
        fix = f"give 1 to {MAX_BODY_BYTES} bytes"
        raise InvalidError("gateway.max_body_bytes", gateway.max_body_bytes, fix)
    most = MAX_GATEWAYS if kind == KUBERNETES else 1
    if not 1 <= gateway.replicas <= most:
        fix = f"give 1 to {most}" if most > 1 else "give 1: docker has one gateway"
        raise InvalidError("gateway.replicas", gateway.replicas, fix)
    capture = gateway.capture
    if capture is not None and not 0 <= capture.fraction <= 1:
        fix = "give a fraction from 0 to 1"
        raise InvalidError("gateway.capture.fraction", capture.fraction, fix)
    if capture is not None and not 0 <= capture.max_body_bytes <= MAX_BODY_BYTES:
        fix = f"give 0 to {MAX_BODY_BYTES} bytes"
        raise InvalidError("gateway.capture.max_body_bytes", capture.max_body_bytes, fix)


def _check_ways_in(spec: ServiceSpec) -> None:
    if spec.place.kind == DOCKER:
        if spec.route is not None:
            raise InvalidError("route", spec.route.host, "leave it out: only kubernetes has routes")
        if spec.port is not None and not 1 <= spec.port <= 65535:  # noqa: PLR2004 - ports
            raise InvalidError("port", spec.port, "give 1 to 65535")
        try:
            ipaddress.ip_address(spec.bind)
        except ValueError as error:
            fix = "give an address of the host, such as 127.0.0.1 or 0.0.0.0"
            raise InvalidError("bind", spec.bind, fix) from error
        return
    if spec.port is not None:
        raise InvalidError("port", spec.port, "leave it out: only docker publishes ports")
    if spec.route is not None:
        _check_route(spec.route)


def _check_route(route: Route) -> None:
    if len(route.host) > 253 or not _DNS_NAME.fullmatch(route.host):  # noqa: PLR2004 - of DNS
        raise InvalidError("route.host", route.host, "give a name such as models.example.org")
    if route.gateway_api is not None:
        parts = route.gateway_api.split("/")
        if len(parts) != 2 or not all(map(_DNS_LABEL.fullmatch, parts)):  # noqa: PLR2004 - see fix
            raise InvalidError("route.gateway_api", route.gateway_api, "write NAMESPACE/NAME")
        if route.ingress_class is not None:
            fix = "give a Gateway or the class of an Ingress, not both"
            raise InvalidError("route.ingress_class", route.ingress_class, fix)
    for field_name in ("ingress_class", "tls_secret"):
        value = getattr(route, field_name)
        if value is not None and not _DNS_NAME.fullmatch(value):
            raise InvalidError(f"route.{field_name}", value, "give the name of an object")
