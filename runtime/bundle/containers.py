"""What a bundle of kind container is: containers that start, change and go together.

The images travel by image registries; the bundle holds only this. `require` is asked by whoever
writes a bundle and by whoever gets one, so a device meets nothing that the registry would refuse.
Specified in docs/specs/containers.md.
"""

import re
from collections.abc import Callable
from typing import Literal

import msgspec

from runtime.bundle import names
from runtime.errors import InvalidError
from runtime.imageregistry import names as imagenames

Start = Literal["beside", "stop-then-start"]
"""Whether the version before runs on while this one is tried."""
Restart = Literal["always", "on-failure"]
Network = Literal["own", "host", "none"]
Protocol = Literal["tcp", "udp"]

MAX_CONTAINERS = 16
MAX_ITEMS = 64
"""Ports, volumes, devices… of one container."""
ALL_GPUS = -1
LOCALHOST = "127.0.0.1"
_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]{0,400}@sha256:[0-9a-f]{64}")
_TAG = re.compile(r":[\w.-]+(?=@)")
"""Behind the last slash: a port is followed by one."""
_CAPABILITY = re.compile(r"[A-Z][A-Z_]{2,40}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_HIGHEST_PORT = 65_535
_LONGEST_S = 86_400.0
_DIGEST_FIX = (
    "name it by digest, as in registry.example/camera@sha256:… (`docker pull NAME:TAG` prints it):"
    " a tag may be another image tomorrow; `packhorse models push` resolves it without --no-resolve"
)

Pin = Callable[[str, str], str]
"""Returns the digest, sha256:…, that an image named by tag has now; the second is its field."""


class Port(msgspec.Struct, frozen=True, omit_defaults=True):
    """A port of the device that leads into a container."""

    port: int
    """Inside."""
    host: int
    """On the device."""
    address: str = LOCALHOST
    """On the device; 0.0.0.0: reachable from outside."""
    protocol: Protocol = "tcp"


class Volume(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place in a container that outlives it."""

    path: str
    """Inside."""
    name: str = ""
    """Of a volume of the module: it stays while versions change."""
    host: str = ""
    """A path on the device, where its settings allow it."""
    read_only: bool = False
    keep: bool = True
    """Whether a volume of the module outlives the module on a device."""


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to tell that a container does its work: by a command in it, or over HTTP."""

    command: tuple[str, ...] = ()
    port: int = 0
    """Inside; the agent asks it for `path` and wants a status below 400."""
    path: str = "/"
    interval_s: float = 10.0
    timeout_s: float = 5.0
    retries: int = 3
    """So many failures in a row make it unhealthy."""
    start_s: float = 30.0
    """Failures before this do not count, until the first success."""


class Logs(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a container may write to its log."""

    max_mb: int = 10
    """Of one file."""
    files: int = 3


class Container(msgspec.Struct, frozen=True, omit_defaults=True):
    """One container."""

    name: str
    """In its group; the others reach it by this name."""
    image: str
    """NAME@sha256:…"""
    tag: str = ""
    """What the author wrote, NAME:TAG, where the digest was found for it: for people."""
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: dict[str, str] = {}
    ports: tuple[Port, ...] = ()
    volumes: tuple[Volume, ...] = ()
    devices: tuple[str, ...] = ()
    gpus: int = 0
    """-1: all."""
    memory_mb: int | None = None
    cpu: float | None = None
    restart: Restart = "always"
    health: Health | None = None
    logs: Logs = Logs()
    user: str = ""
    """"": the image's own."""
    read_only: bool = True
    """Its root; volumes and tmpfs can be written."""
    tmpfs: tuple[str, ...] = ("/tmp",)  # noqa: S108 - in the container
    capabilities: tuple[str, ...] = ()
    """All others are dropped."""
    needs: tuple[str, ...] = ()
    """Started before it, and good."""
    network: Network = "own"
    stop_s: int = 10
    """How long it may take to end before it is killed."""


class Group(msgspec.Struct, frozen=True, omit_defaults=True):
    """The containers of a bundle."""

    containers: tuple[Container, ...]
    start: Start = "beside"
    trial_s: float = 10.0
    """How long one without a health check must run to be good."""


def without_tag(image: str) -> str:
    """Return a reference without its tag, where there is a digest to decide."""
    head, slash, last = image.rpartition("/")
    return f"{head}{slash}{_TAG.sub('', last)}"


def pinned(group: Group, pin: Pin) -> Group:
    """Return a group whose images are all named by digest; raises what `pin` raises."""
    return msgspec.structs.replace(
        group, containers=tuple(_pinned(each, pin) for each in group.containers)
    )


def _pinned(each: Container, pin: Pin) -> Container:
    if "@" in each.image:
        return each
    image = f"{imagenames.plain(each.image)}@{pin(each.image, f'containers.{each.name}.image')}"
    return msgspec.structs.replace(each, image=image, tag=each.image)


def in_order(group: Group) -> tuple[Container, ...]:
    """Return the containers, each behind those that it needs; raise InvalidError for a circle."""
    left, done = list(group.containers), list[Container]()
    while left:
        ready = {each.name for each in done}
        free = [each for each in left if ready.issuperset(each.needs)]
        if not free:
            circle = ", ".join(each.name for each in left)
            raise InvalidError("containers.needs", circle, "they wait for one another: break it")
        done += free
        left = [each for each in left if each not in free]
    return tuple(done)


def require_for(kind: str, group: Group | None) -> None:
    """Raise InvalidError unless a bundle of this kind has a group if it should, and a good one."""
    if (group is not None) != (kind == "container"):
        raise InvalidError("container", "…", "kind container has one, and no other kind")
    if group is not None:
        require(group)


def require(group: Group, *, tags: bool = False) -> None:
    """Raise InvalidError unless an engine can be asked for all of this; `tags`: or once pinned."""
    if not 0 < len(group.containers) <= MAX_CONTAINERS:
        count = len(group.containers)
        raise InvalidError("containers", count, f"give 1 to {MAX_CONTAINERS} containers")
    known = [each.name for each in group.containers]
    if len(set(known)) != len(known):
        raise InvalidError("containers", known, "give each its own name")
    for each in group.containers:
        _require_container(each, known, tags=tags)
        if each.ports and group.start == "beside":
            fix = (
                "two versions cannot hold one port: write start: stop-then-start, or leave the"
                " ports out"
            )
            raise InvalidError(f"containers.{each.name}.ports", each.ports[0].host, fix)
    _within("trial_s", group.trial_s, 0.1, _LONGEST_S)
    _require_each_port_once(group)
    _require_one_mind(group)
    in_order(group)


def _require_each_port_once(group: Group) -> None:
    taken = [(port.protocol, port.host) for each in group.containers for port in each.ports]
    for protocol, host in taken:
        if taken.count((protocol, host)) > 1:
            raise InvalidError("containers.ports.host", host, f"publish {protocol} {host} once")


def _require_one_mind(group: Group) -> None:
    """Raise InvalidError if two containers say different things of whether a volume stays."""
    said: dict[str, bool] = {}
    for volume in (one for each in group.containers for one in each.volumes if one.name):
        if said.setdefault(volume.name, volume.keep) != volume.keep:
            fix = "write the same keep: wherever this volume is mounted"
            raise InvalidError("containers.volumes.keep", volume.name, fix)


def _require_container(each: Container, known: list[str], *, tags: bool) -> None:
    names.require(each.name, "containers.name")
    field = f"containers.{each.name}"
    _require_image(each, field, tags=tags)
    for need in each.needs:
        if need not in known:
            raise InvalidError(f"{field}.needs", need, f"the containers are {', '.join(known)}")
    for name in each.environment:
        if not _VARIABLE.fullmatch(name):
            raise InvalidError(f"{field}.environment", name, "use letters, digits and '_'")
    for capability in each.capabilities:
        if not _CAPABILITY.fullmatch(capability) or capability in {"ALL", "CAP_ALL"}:
            fix = "write a name such as NET_BIND_SERVICE, and none that means all"
            raise InvalidError(f"{field}.capabilities", capability, fix)
    for listed in (each.ports, each.volumes, each.devices, each.tmpfs, each.capabilities):
        if len(listed) > MAX_ITEMS:
            raise InvalidError(field, len(listed), f"list at most {MAX_ITEMS} of one kind")
    _require_places(each, field)
    _require_network(each, field)
    _require_limits(each, field)


def _require_image(each: Container, field: str, *, tags: bool) -> None:
    if tags and "@" not in each.image:
        imagenames.parse(each.image, f"{field}.image")
    elif not _IMAGE.fullmatch(each.image):
        raise InvalidError(f"{field}.image", each.image, _DIGEST_FIX)
    if each.tag:
        imagenames.parse(each.tag, f"{field}.tag")


def _require_places(each: Container, field: str) -> None:
    inside = [volume.path for volume in each.volumes] + list(each.tmpfs)
    for path in (*inside, *each.devices, *(one.host for one in each.volumes if one.host)):
        if not path.startswith("/") or ".." in path.split("/") or ":" in path or "," in path:
            raise InvalidError(field, path, "give an absolute path without '..', ':' and ','")
    if len(set(inside)) != len(inside):
        raise InvalidError(f"{field}.volumes", inside, "mount one thing at each path")
    for device in each.devices:
        if not device.startswith("/dev/"):
            raise InvalidError(f"{field}.devices", device, "name a device below /dev")
    for volume in each.volumes:
        if bool(volume.name) == bool(volume.host):
            raise InvalidError(f"{field}.volumes", volume.path, "write name: or host:, one of them")
        if volume.name:
            names.require(volume.name, f"{field}.volumes.name")
        elif not volume.keep:
            fix = "a path of the device is never removed: leave keep out"
            raise InvalidError(f"{field}.volumes.keep", volume.host, fix)


def _require_network(each: Container, field: str) -> None:
    if each.ports and each.network != "own":
        fix = f"a container with network: {each.network} publishes none: leave them out"
        raise InvalidError(f"{field}.ports", each.ports[0].host, fix)
    for port in each.ports:
        _within(f"{field}.ports.port", port.port, 1, _HIGHEST_PORT)
        _within(f"{field}.ports.host", port.host, 1, _HIGHEST_PORT)
    health = each.health
    if health is None:
        return
    if bool(health.command) == bool(health.port):
        raise InvalidError(f"{field}.health", None, "write command: or http:, one of them")
    if health.port and each.network == "none":
        raise InvalidError(f"{field}.health.http", health.port, "without a network use command:")
    if health.port:
        _within(f"{field}.health.http.port", health.port, 1, _HIGHEST_PORT)
    if not health.path.startswith("/") or not health.path.isprintable() or " " in health.path:
        raise InvalidError(f"{field}.health.http.path", health.path, "begin it with '/'")
    _within(f"{field}.health.interval_s", health.interval_s, 0.1, _LONGEST_S)
    _within(f"{field}.health.timeout_s", health.timeout_s, 0.1, _LONGEST_S)
    _within(f"{field}.health.start_s", health.start_s, 0.0, _LONGEST_S)
    _within(f"{field}.health.retries", health.retries, 1, 1000)


def _require_limits(each: Container, field: str) -> None:
    if each.memory_mb is not None:
        _within(f"{field}.resources.memory_mb", each.memory_mb, 6, 1 << 24)
    if each.cpu is not None:
        _within(f"{field}.resources.cpu", each.cpu, 0.01, 1024)
    _within(f"{field}.gpu", each.gpus, ALL_GPUS, 64)
    _within(f"{field}.logs.max_mb", each.logs.max_mb, 1, 10_000)
    _within(f"{field}.logs.files", each.logs.files, 1, 100)
    _within(f"{field}.stop_s", each.stop_s, 0, 3600)


def _within(field: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # so written that nan is refused too
        raise InvalidError(field, value, f"give {least:g} to {most:g}")
