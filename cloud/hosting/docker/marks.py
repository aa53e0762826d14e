"""What things of a service are called in an engine, and the labels that mark them: pure.

    network    packhorse-{service}
    volumes    packhorse-{service}-config, -capture, -r{N}-secrets
    replica    packhorse-{service}-r{N}-{place}         in the network: r{N}-{place}
    gateway    packhorse-{service}-gateway-{tag}       the first holds the network and the port

The label `packhorse.service` makes a thing ours; nothing without it is ever touched.
"""

from runtime.containers.specs import ContainerSeen

SERVICE = "packhorse.service"
ROLE = "packhorse.role"
REPLICA, GATEWAY = "replica", "gateway"
REVISION = "packhorse.revision"
PLACE = "packhorse.place"
MODEL, VERSION, BUNDLE = "packhorse.model", "packhorse.version", "packhorse.bundle"
GENERATION = "packhorse.generation"
SPEC = "packhorse.spec"
"""Fingerprint of what the container was made from."""
STATUS = "packhorse.status"
"""Of a gateway: the name of its status file."""
PORTS = "packhorse.ports"
"""Of the gateway that holds them: ADDRESS PORT PORT, for HTTP and gRPC."""

CONFIG_PATH, CAPTURE_PATH, SECRETS_PATH = "/config", "/capture", "/secrets"
CONFIG_NAME, APPLIED_NAME, STATUS_PREFIX = "gateway.json", "applied.json", "status-"
SECRETS_NAME = "env.json"


def network(service: str) -> str:
    """Return the name of a service's network."""
    return f"packhorse-{service}"


def config_volume(service: str) -> str:
    """Return the name of the volume with the gateway's configuration and status."""
    return f"packhorse-{service}-config"


def capture_volume(service: str) -> str:
    """Return the name of the volume with what the gateway captures."""
    return f"packhorse-{service}-capture"


def secrets_volume(service: str, revision: int) -> str:
    """Return the name of the volume with a revision's secrets."""
    return f"packhorse-{service}-r{revision}-secrets"


def replica(service: str, revision: int, place: int) -> str:
    """Return the name of a replica's container."""
    return f"packhorse-{service}-r{revision}-{place}"


def alias(revision: int, place: int) -> str:
    """Return the name of a replica in the service's network."""
    return f"r{revision}-{place}"


def gateway(service: str, tag: str) -> str:
    """Return the name of a gateway's container."""
    return f"packhorse-{service}-gateway-{tag}"


def status_name(tag: str) -> str:
    """Return the name of a gateway's status file."""
    return f"{STATUS_PREFIX}{tag}.json"


def is_replica(container: ContainerSeen) -> bool:
    """Say whether a container of a service is one of its replicas."""
    return container.labels.get(ROLE) == REPLICA


def is_gateway(container: ContainerSeen) -> bool:
    """Say whether a container of a service is one of its gateways."""
    return container.labels.get(ROLE) == GATEWAY


def holds(container: ContainerSeen) -> bool:
    """Say whether a gateway holds the network and the port that others share."""
    return PORTS in container.labels


def revision_of(container: ContainerSeen) -> int:
    """Return the revision that a replica belongs to; 0 if the label is not a number."""
    return _number(container, REVISION)


def place_of(container: ContainerSeen) -> int:
    """Return a replica's place among those of its revision; 0 if the label is not a number."""
    return _number(container, PLACE)


def _number(container: ContainerSeen, label: str) -> int:
    text = container.labels.get(label, "")
    return int(text) if text.isdecimal() else 0
