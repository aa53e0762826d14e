"""Whether an engine can be asked for all that a bundle of kind container says.

`require` is asked by whoever writes a bundle and by whoever gets one, so a device meets nothing
that the registry would refuse.
"""

import re

from runtime.bundle import containers, names
from runtime.bundle.containers import Container, Group
from runtime.errors import InvalidError
from runtime.imageregistry import names as imagenames

_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]{0,400}@sha256:[0-9a-f]{64}")
_CAPABILITY = re.compile(r"[A-Z][A-Z_]{2,40}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_HIGHEST_PORT = 65_535
_LONGEST_S = 86_400.0
_DIGEST_FIX = (
    "name it by digest, as in registry.example/camera@sha256:… (`docker pull NAME:TAG` prints it):"
    " a tag may be another image tomorrow; `packhorse models push` resolves it without --no-resolve"
)


def require_for(kind: str, group: Group | None) -> None:
    """Raise InvalidError unless a bundle of this kind has a group if it should, and a good one."""
    if (group is not None) != (kind == "container"):
        raise InvalidError("container", "…", "kind container has one, and no other kind")
    if group is not None:
        require(group)


def require(group: Group, *, tags: bool = False) -> None:
    """Raise InvalidError unless an engine can be asked for all of this; `tags`: or once pinned."""
    if not 0 < len(group.containers) <= containers.MAX_CONTAINERS:
        count = len(group.containers)
        raise InvalidError("containers", count, f"give 1 to {containers.MAX_CONTAINERS} containers")
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
    containers.in_order(group)


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
        if len(listed) > containers.MAX_ITEMS:
            raise InvalidError(
                field, len(listed), f"list at most {containers.MAX_ITEMS} of one kind"
            )
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
    _within(f"{field}.gpu", each.gpus, containers.ALL_GPUS, 64)
    _within(f"{field}.logs.max_mb", each.logs.max_mb, 1, 10_000)
    _within(f"{field}.logs.files", each.logs.files, 1, 100)
    _within(f"{field}.stop_s", each.stop_s, 0, 3600)


def _within(field: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # so written that nan is refused too
        raise InvalidError(field, value, f"give {least:g} to {most:g}")
