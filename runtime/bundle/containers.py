"""What a bundle of kind container is: containers that start, change and go together.

The images travel by image registries; the bundle holds only this. What is refused of it is in
`containerchecks`. Specified in docs/specs/containers.md.
"""

import re
from collections.abc import Callable
from typing import Literal

import msgspec

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
_TAG = re.compile(r":[\w.-]+(?=@)")
"""Behind the last slash: a port is followed by one."""

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
