"""What a container engine is asked for, and what it says there is: plain values, no engine needed.

What is asked for is safe unless it says otherwise: no capability, no new privileges, a read-only
root, a bounded log.
"""

import contextlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Restart = Literal["no", "always"]
LOG_BYTES = "10m"
LOG_FILES = "3"


@dataclass(frozen=True)
class Address:
    """Which engine."""

    url: str | None = None
    """unix:///PATH, tcp://HOST:PORT or ssh://[USER@]HOST[:PORT][/PATH]; None: DOCKER_HOST's value
    as given by the caller, or the platform's default socket."""
    ca: str | None = None
    """tcp: file of the CA that signed the engine's certificate. Without it, tcp is refused."""
    certificate: str | None = None
    """tcp: our certificate, for engines that ask for one; with `key`."""
    key: str | None = None
    timeout_s: float = 60.0
    """Of one answer. Streams have none."""


@dataclass(frozen=True)
class Credentials:
    """Who we are to an image registry; never logged, never an argument of a program."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Mount:
    """A named volume in a container."""

    volume: str
    path: str
    read_only: bool = False


@dataclass(frozen=True)
class Bind:
    """A path of the engine's machine in a container."""

    host: str
    path: str
    read_only: bool = False


@dataclass(frozen=True)
class Probe:
    """A command that tells whether a container is healthy."""

    command: tuple[str, ...]
    """(): no probe, whatever the image says."""
    interval_s: float = 30.0
    timeout_s: float = 5.0
    start_s: float = 60.0
    retries: int = 3


@dataclass(frozen=True)
class ContainerSpec:
    """A container that shall be."""

    image: str
    command: tuple[str, ...] | None = None
    """None: the image's own."""
    entrypoint: tuple[str, ...] | None = None
    """None: the image's own; (): none at all."""
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    """None: the image's own."""
    network: str = "none"
    """A network's name, "none", or "container:ID" to live in the network of another."""
    aliases: tuple[str, ...] = ()
    """Names in that network."""
    ports: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    """TCP port inside to address and port on the engine's machine."""
    udp_ports: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    binds: tuple[Bind, ...] = ()
    devices: tuple[str, ...] = ()
    """Paths below /dev, the same inside."""
    capabilities: tuple[str, ...] = ()
    """Without CAP_; all others are dropped."""
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    """Path to options, such as "size=64m"."""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    cpu: float | None = None
    memory_mb: int | None = None
    gpus: int = 0
    """-1: all."""
    log_size: str = LOG_BYTES
    """Of one file."""
    log_files: str = LOG_FILES
    pids: int | None = 1024
    restart: Restart = "no"
    read_only: bool = True
    stop_signal: str | None = None
    stop_s: int = 10
    """How long the engine waits between asking it to stop and killing it."""
    probe: Probe | None = None
    """None: the image's own."""


@dataclass(frozen=True)
class ContainerSeen:
    """A container that is there."""

    id: str
    name: str
    image: str
    """Id of the image."""
    image_reference: str
    """As it was asked for."""
    labels: Mapping[str, str]
    state: str
    """created, running, paused, restarting, removing, exited or dead."""
    health: str = ""
    """starting, healthy or unhealthy; "": it has no probe."""
    health_said: str = ""
    """What the last probe printed."""
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    """Why the engine could not start it."""
    restarts: int = 0
    started_at: str = ""
    """As the engine writes it; compares as text."""
    finished_at: str = ""
    networks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name to its aliases there."""
    addresses: tuple[str, ...] = ()
    """Of it in its networks."""
    network_mode: str = ""
    ports: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    """As asked for, of TCP."""
    cpu: float | None = None
    memory_mb: int | None = None
    restart: str = ""

    @property
    def running(self) -> bool:
        """Say whether its process runs now."""
        return self.state == "running"


@dataclass(frozen=True)
class EngineSeen:
    """What an engine says of itself, as far as images go."""

    os: str
    machine: str
    """As the kernel writes it: x86_64, aarch64, armv7l."""
    root: str
    """Where it keeps images, on its own machine."""
    completes_images: bool
    """It takes an image of which only those layers are given that it lacks."""
    insecure_hosts: frozenset[str] = frozenset()
    """Image registries without TLS that can be verified, as its owner says."""
    insecure_networks: tuple[str, ...] = ()

    def trusts_plainly(self, host: str) -> bool:
        """Say whether its owner calls an image registry insecure."""
        if host in self.insecure_hosts:
            return True
        plain = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        plain = "127.0.0.1" if plain == "localhost" else plain.strip("[]")
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(plain)
            return any(address in ipaddress.ip_network(each) for each in self.insecure_networks)
        return False


@dataclass(frozen=True)
class Abilities:
    """What an engine would leave out without a word if it cannot do it."""

    limits_memory: bool
    gives_gpus: bool


@dataclass(frozen=True)
class ImageSeen:
    """An image that is there."""

    id: str
    labels: Mapping[str, str]
    size_bytes: int
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    """REPOSITORY@sha256:…, where an image registry has it."""
    architecture: str
    layers: tuple[str, ...]
    command: tuple[str, ...] = ()
    """What it does if nothing else is said."""


@dataclass(frozen=True)
class Event:
    """Something that changed."""

    kind: str
    """container, network, volume or image."""
    action: str
    labels: Mapping[str, str]
    """Of the thing, with "name" among them."""
