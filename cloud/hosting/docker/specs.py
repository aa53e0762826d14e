"""From a wish to the containers that are to be: pure."""

import dataclasses
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cloud.hosting.docker import marks
from cloud.hosting.targets import ADMIN_PORT, GRPC_PORT, HTTP_PORT, RevisionWish, Wish
from runtime.containers import payload
from runtime.containers.specs import ContainerSpec, Mount, Probe

USER = "65532:65532"
TMPFS = {"/tmp": "rw,noexec,nosuid,nodev,size=256m"}  # noqa: S108 - inside a container
MARGIN_S = 10
"""More than a request may take, before a replica that drains is killed."""
FIRST_PORT, PORTS = 20_000, 10_000
"""Where a free port is looked for if none is wished."""
TRIES = 40
STOP_S = 40
"""Of the engine's own: what is sent away in order gets the time that its last requests may take."""
_FIRST_ADMIN_PORT, _ADMIN_PORTS = ADMIN_PORT, 1000
_LAST_PORT = 65_535


def replica(wish: Wish, revision: RevisionWish, place: int = 0) -> ContainerSpec:
    """Return a replica's container; place 0 is none's: fingerprints are made of it."""
    secret = bool(revision.secrets)
    path = f"{marks.SECRETS_PATH}/{marks.SECRETS_NAME}"
    volume = marks.secrets_volume(wish.service, revision.number)
    return ContainerSpec(
        image=revision.image,
        # The image's own command follows.
        command=("launch", "--env-file", path, "--") if secret else None,
        env=dict(revision.env),
        user=USER,
        network=marks.network(wish.service),
        aliases=(marks.alias(revision.number, place),) if place else (),
        mounts=(Mount(volume, marks.SECRETS_PATH, read_only=True),) if secret else (),
        tmpfs=TMPFS,
        cpu=revision.resources.cpu,
        memory_mb=revision.resources.memory_mb,
        gpus=revision.resources.gpus,
        restart="always",
        stop_signal="SIGTERM",
        stop_s=STOP_S,
    )


def grace_s(wish: Wish) -> int:
    """Return how long a replica may take to answer its last requests."""
    return round(wish.gateway.timeout_s) + MARGIN_S


def gateway_fingerprint(wish: Wish) -> str:
    """Return what tells one gateway's container from another's, wherever it listens."""
    return payload.fingerprint(_gateway(wish, ("gateway",)))


def holder(wish: Wish, ports: tuple[int, int]) -> "GatewaySpec":
    """Return the gateway that keeps the network and publishes `ports`, for HTTP and gRPC."""
    own = f"{gateway_fingerprint(wish)} {wish.bind} {ports}"
    tag = hashlib.sha256(own.encode()).hexdigest()[:8]
    status = marks.status_name(tag)
    command = _command(status, _FIRST_ADMIN_PORT)
    hold = ("launch", "--hold", f"{marks.CONFIG_PATH}/{status}", "--")
    made = dataclasses.replace(
        _gateway(wish, (*hold, *command)),
        network=marks.network(wish.service),
        aliases=("gateway",),
        ports={HTTP_PORT: (wish.bind, ports[0]), GRPC_PORT: (wish.bind, ports[1])},
        # The connections of a socket that closes go to the other gateway on the port.
        sysctls={"net.ipv4.tcp_migrate_req": "1"},
    )
    return GatewaySpec(made, tag, status, f"{wish.bind} {ports[0]} {ports[1]}")


def beside(wish: Wish, holder_id: str) -> "GatewaySpec":
    """Return a gateway in the network of the one that holds it, to take its place."""
    fingerprint = gateway_fingerprint(wish)
    tag = hashlib.sha256(f"{fingerprint} {holder_id}".encode()).hexdigest()[:8]
    status = marks.status_name(tag)
    # In one network no two can have the same port for their own status.
    admin = _FIRST_ADMIN_PORT + 1 + zlib.crc32(tag.encode()) % _ADMIN_PORTS
    made = _gateway(wish, _command(status, admin))
    return GatewaySpec(dataclasses.replace(made, network=f"container:{holder_id}"), tag, status)


@dataclass(frozen=True)
class GatewaySpec:
    """A gateway that is to be."""

    spec: ContainerSpec
    tag: str
    """Last part of its name."""
    status: str
    """Name of its status file."""
    ports: str = ""
    """What the label says; "": it publishes none."""


def _command(status: str, admin: int) -> tuple[str, ...]:
    return (
        *("gateway", "--config", f"{marks.CONFIG_PATH}/{marks.CONFIG_NAME}"),
        *("--status-file", f"{marks.CONFIG_PATH}/{status}", "--capture", marks.CAPTURE_PATH),
        *("--host", "0.0.0.0", "--http-port", str(HTTP_PORT), "--grpc-port", str(GRPC_PORT)),  # noqa: S104 - see above
        *("--admin-host", "127.0.0.1", "--admin-port", str(admin), "--reuse-port"),
    )


def _gateway(wish: Wish, command: tuple[str, ...]) -> ContainerSpec:
    return ContainerSpec(
        image=wish.gateway_image,
        command=command,
        user=USER,
        mounts=(
            Mount(marks.config_volume(wish.service), marks.CONFIG_PATH),
            Mount(marks.capture_volume(wish.service), marks.CAPTURE_PATH),
        ),
        tmpfs=TMPFS,
        restart="always",
        stop_signal="SIGTERM",
        stop_s=STOP_S,
        probe=Probe(()),
    )


def port_candidates(wish: Wish) -> Iterator[tuple[int, int]]:
    """Yield ports for HTTP and gRPC to try: the wished one, or always the same ones first."""
    if wish.port is not None:
        for step in range(1, TRIES + 1):
            grpc = wish.port + step
            yield wish.port, grpc if grpc <= _LAST_PORT else wish.port - step
        return
    start = zlib.crc32(wish.service.encode()) % (PORTS // 2)
    for step in range(TRIES):
        http = FIRST_PORT + 2 * ((start + step) % (PORTS // 2))
        yield http, http + 1
