"""What the owner of a device lets containers have of it, and whether a bundle asks for more."""

import fnmatch
from pathlib import PurePosixPath

import msgspec

from runtime.bundle.containers import Container, Group
from runtime.errors import InvalidError


class Permits(msgspec.Struct, frozen=True):
    """See the settings of the same names with `container_` before them."""

    roots: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    host_network: bool = False


def require(group: Group, permits: Permits) -> None:
    """Raise InvalidError naming what a bundle asks for, and the setting that would allow it."""
    for each in group.containers:
        _require(each, permits)


def _require(each: Container, permits: Permits) -> None:
    field = f"containers.{each.name}"
    for volume in each.volumes:
        if volume.host and not _below(volume.host, permits.roots):
            _refuse(f"{field}.volumes.host", volume.host, "container_roots")
    for device in each.devices:
        if not any(fnmatch.fnmatchcase(device, allowed) for allowed in permits.devices):
            _refuse(f"{field}.devices", device, "container_devices")
    for capability in each.capabilities:
        if capability not in permits.capabilities:
            _refuse(f"{field}.capabilities", capability, "container_capabilities")
    if each.network == "host" and not permits.host_network:
        _refuse(f"{field}.network", each.network, "container_host_network")


def _below(path: str, roots: tuple[str, ...]) -> bool:
    # As text: links are the device's own, and ".." is refused by the bundle's reader.
    return any(PurePosixPath(path).is_relative_to(root) for root in roots)


def _refuse(field: str, value: str, setting: str) -> None:
    fix = f"this device does not allow it: see {setting} in its agent.toml"
    raise InvalidError(field, value, fix)
