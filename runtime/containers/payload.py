"""From our words to the Engine API's JSON, and back."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from runtime.containers.specs import (
    Bind,
    ContainerSeen,
    ContainerSpec,
    EngineSeen,
    ImageSeen,
    Mount,
    Probe,
)

_NANO = 1_000_000_000
_MIB = 1 << 20


def container(spec: ContainerSpec) -> dict[str, Any]:
    """Return the body that makes a container."""
    body: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in sorted(spec.env.items())],
        "Labels": dict(spec.labels),
        "ExposedPorts": {inside: {} for inside in _published(spec)},
        "HostConfig": _host(spec),
        "StopTimeout": spec.stop_s,
    }
    optional = {
        "Cmd": None if spec.command is None else list(spec.command),
        "Entrypoint": None if spec.entrypoint is None else list(spec.entrypoint or ("",)),
        "User": spec.user,
        "StopSignal": spec.stop_signal,
        "Healthcheck": None if spec.probe is None else _probe(spec.probe),
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    if not spec.network.startswith("container:") and spec.network not in {"none", "host"}:
        endpoint = {"Aliases": list(spec.aliases)}
        body["NetworkingConfig"] = {"EndpointsConfig": {spec.network: endpoint}}
    return body


def _host(spec: ContainerSpec) -> dict[str, Any]:
    host: dict[str, Any] = {
        "NetworkMode": spec.network,
        "PortBindings": _published(spec),
        "RestartPolicy": {"Name": spec.restart},
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": spec.log_size, "max-file": spec.log_files},
        },
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": spec.read_only,
        "Tmpfs": dict(spec.tmpfs),
        "Sysctls": dict(spec.sysctls),
        "Mounts": [*map(_mount, spec.mounts), *map(_bind, spec.binds)],
        "PidsLimit": spec.pids,
    }
    host |= limits(spec.cpu, spec.memory_mb)
    if spec.gpus:
        host["DeviceRequests"] = [{"Count": spec.gpus, "Capabilities": [["gpu"]]}]
    if spec.capabilities:
        host["CapAdd"] = list(spec.capabilities)
    if spec.devices:
        host["Devices"] = [
            {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"}
            for path in spec.devices
        ]
    return host


def _published(spec: ContainerSpec) -> dict[str, list[dict[str, str]]]:
    return {
        f"{inside}/{protocol}": [{"HostIp": address, "HostPort": str(outside)}]
        for protocol, ports in (("tcp", spec.ports), ("udp", spec.udp_ports))
        for inside, (address, outside) in ports.items()
    }


def limits(cpu: float | None, memory_mb: int | None) -> dict[str, int]:
    """Return what a container may use; 0 is no limit. Swap is no way round the memory's limit."""
    memory = (memory_mb or 0) * _MIB
    return {"NanoCpus": round((cpu or 0) * _NANO), "Memory": memory, "MemorySwap": memory}


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": mount.volume,
        "Target": mount.path,
        "ReadOnly": mount.read_only,
    }


def _bind(bind: Bind) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": bind.host,
        "Target": bind.path,
        "ReadOnly": bind.read_only,
    }


def _probe(probe: Probe) -> dict[str, Any]:
    if not probe.command:
        return {"Test": ["NONE"]}
    return {
        "Test": ["CMD", *probe.command],
        "Interval": round(probe.interval_s * _NANO),
        "Timeout": round(probe.timeout_s * _NANO),
        "StartPeriod": round(probe.start_s * _NANO),
        "Retries": probe.retries,
    }


def fingerprint(spec: ContainerSpec) -> str:
    """Return 16 digits that are others for every container that is not alike but for its labels."""
    body = container(spec)
    del body["Labels"]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def container_seen(found: Mapping[str, Any]) -> ContainerSeen:
    """Return what an inspection says."""
    state, host, config = found["State"], found["HostConfig"], found["Config"]
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    return ContainerSeen(
        id=found["Id"],
        name=str(found["Name"]).removeprefix("/"),
        image=found["Image"],
        image_reference=config.get("Image") or "",
        labels=config.get("Labels") or {},
        state=str(state.get("Status") or ""),
        health=str((state.get("Health") or {}).get("Status") or "").replace("none", ""),
        health_said=_last_probe(state.get("Health") or {}),
        exit_code=int(state.get("ExitCode") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        restarts=int(found.get("RestartCount") or 0),
        started_at=str(state.get("StartedAt") or ""),
        finished_at=str(state.get("FinishedAt") or ""),
        networks={name: tuple(each.get("Aliases") or ()) for name, each in networks.items()},
        addresses=tuple(
            address
            for each in networks.values()
            for address in (each.get("IPAddress"), each.get("GlobalIPv6Address"))
            if address
        ),
        network_mode=str(host.get("NetworkMode") or ""),
        ports=_ports(host.get("PortBindings") or {}),
        cpu=(host.get("NanoCpus") or 0) / _NANO or None,
        memory_mb=(host.get("Memory") or 0) // _MIB or None,
        restart=str((host.get("RestartPolicy") or {}).get("Name") or ""),
    )


def _last_probe(health: Mapping[str, Any]) -> str:
    told = health.get("Log") or ()
    return str(told[-1].get("Output") or "").strip() if told else ""


def _ports(bindings: Mapping[str, Any]) -> dict[int, tuple[str, int]]:
    found = {}
    for inside, outside in bindings.items():
        port, _, protocol = inside.partition("/")
        if protocol == "tcp" and outside and str(outside[0].get("HostPort") or "").isdigit():
            found[int(port)] = (str(outside[0].get("HostIp") or ""), int(outside[0]["HostPort"]))
    return found


def image_seen(found: Mapping[str, Any]) -> ImageSeen:
    """Return what an inspection says."""
    return ImageSeen(
        id=found["Id"],
        labels=(found.get("Config") or {}).get("Labels") or {},
        size_bytes=int(found.get("Size") or 0),
        tags=tuple(found.get("RepoTags") or ()),
        digests=tuple(found.get("RepoDigests") or ()),
        architecture=str(found.get("Architecture") or ""),
        command=tuple((found.get("Config") or {}).get("Cmd") or ()),
        layers=tuple((found.get("RootFS") or {}).get("Layers") or ()),
    )


_SNAPSHOTTER = "io.containerd.snapshotter.v1"


def engine_seen(info: Mapping[str, Any], version: Mapping[str, Any]) -> EngineSeen:
    """Return what an engine says of itself."""
    registries = info.get("RegistryConfig") or {}
    indexes = (registries.get("IndexConfigs") or {}).items()
    names = {str(each.get("Name") or "") for each in version.get("Components") or ()}
    kept_by_containerd = any(_SNAPSHOTTER in each for each in info.get("DriverStatus") or ())
    return EngineSeen(
        os=str(info.get("OSType") or ""),
        machine=str(info.get("Architecture") or ""),
        root=str(info.get("DockerRootDir") or ""),
        completes_images="Podman Engine" not in names and not kept_by_containerd,
        insecure_hosts=frozenset(host for host, one in indexes if one.get("Secure") is False),
        insecure_networks=tuple(registries.get("InsecureRegistryCIDRs") or ()),
    )
