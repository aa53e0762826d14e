"""What the engine is asked for when a module's containers start. No engine needed.

Everything of ours has labels, and they are the state: an agent that comes back finds by them what
it runs. Each start has a number of its own, so what a dead agent left is told from what is new.
"""

from collections.abc import Iterable

import msgspec

from runtime.bundle.containers import Container, Group, Health
from runtime.containers.specs import Bind, ContainerSeen, ContainerSpec, Mount, Probe
from runtime.digests import Digest

DEVICE = "packhorse.device"
MODULE = "packhorse.module"
BUNDLE = "packhorse.bundle"
START = "packhorse.start"
CONTAINER = "packhorse.container"
VERSION = "packhorse.version"
KEEP = "packhorse.keep"
"""On a volume: "no", it goes with its module. As it was said when the volume was made."""
START_CHARS = 8
_TMPFS = "size=64m"


class Origin(msgspec.Struct, frozen=True):
    """Whose containers they are."""

    device: str
    module: str
    bundle: Digest
    version: str
    """MODEL:NUMBER, for people."""


def labels(origin: Origin, start: str, container: str = "") -> dict[str, str]:
    """Return what is written on everything of one start."""
    own = {CONTAINER: container} if container else {}
    return {
        DEVICE: origin.device,
        MODULE: origin.module,
        BUNDLE: origin.bundle,
        START: start,
        VERSION: origin.version,
        **own,
    }


def name(origin: Origin, start: str, container: str) -> str:
    """Return what a container is called; nothing is found by it, people read it."""
    return f"packhorse-{origin.module}-{container}-{start}"


def network(origin: Origin, start: str) -> str:
    """Return what the network of one start is called."""
    return f"packhorse-{origin.module}-{start}"


def needs_network(group: Group) -> bool:
    """Say whether any of the containers lives in the group's own network."""
    return any(each.network == "own" for each in group.containers)


def volume(origin: Origin, called: str) -> str:
    """Return what a module's volume is called; it is the same for each version."""
    # "_" is in none of the names, so no two volumes have one name.
    return f"packhorse_{origin.device}_{origin.module}_{called}"


def volumes(group: Group, origin: Origin) -> dict[str, dict[str, str]]:
    """Return the module's volumes that a group needs: the labels of each, by name."""
    own = {DEVICE: origin.device, MODULE: origin.module}
    return {
        volume(origin, one.name): own if one.keep else {**own, KEEP: "no"}
        for each in group.containers
        for one in each.volumes
        if one.name
    }


def spec(each: Container, origin: Origin, start: str) -> ContainerSpec:
    """Return what the engine shall make of one container.

    It never restarts it by itself: the agent does, and counts.
    """
    published = {
        protocol: {
            port.port: (port.address, port.host) for port in each.ports if port.protocol == protocol
        }
        for protocol in ("tcp", "udp")
    }
    return ContainerSpec(
        image=each.image,
        command=each.command,
        entrypoint=each.entrypoint,
        env=_environment(each, origin),
        labels=labels(origin, start, each.name),
        user=each.user or None,
        network=network(origin, start) if each.network == "own" else each.network,
        aliases=(each.name,) if each.network == "own" else (),
        ports=published["tcp"],
        udp_ports=published["udp"],
        mounts=tuple(
            Mount(volume(origin, one.name), one.path, one.read_only)
            for one in each.volumes
            if one.name
        ),
        binds=tuple(Bind(one.host, one.path, one.read_only) for one in each.volumes if one.host),
        tmpfs=dict.fromkeys(each.tmpfs, _TMPFS),
        cpu=each.cpu,
        memory_mb=each.memory_mb,
        gpus=each.gpus,
        devices=each.devices,
        capabilities=each.capabilities,
        log_size=f"{each.logs.max_mb}m",
        log_files=str(each.logs.files),
        read_only=each.read_only,
        stop_s=each.stop_s,
        probe=_probe(each.health),
    )


def whole_start(group: Group, found: Iterable[ContainerSeen], taken: Iterable[str]) -> str:
    """Return the start whose containers are all there, running ones first; "": there is none.

    `taken` are starts that somebody minds.
    """
    wanted = {each.name for each in group.containers}
    starts: dict[str, list[ContainerSeen]] = {}
    for seen in found:
        starts.setdefault(seen.labels.get(START, ""), []).append(seen)
    whole = [
        (sum(each.running for each in seen), start)
        for start, seen in starts.items()
        if start not in taken and {each.labels.get(CONTAINER) for each in seen} == wanted
    ]
    return max(whole)[1] if whole else ""


def _environment(each: Container, origin: Origin) -> dict[str, str]:
    told = {
        "PACKHORSE_DEVICE": origin.device,
        "PACKHORSE_MODULE": origin.module,
        "PACKHORSE_VERSION": origin.version,
    }
    return {**told, **each.environment}


def _probe(health: Health | None) -> Probe | None:
    if health is None:
        return None  # the image may have one
    if not health.command:
        return Probe(())  # the agent asks by itself
    return Probe(
        health.command, health.interval_s, health.timeout_s, health.start_s, health.retries
    )
