"""What is there of a service, read from the engine: no decisions."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from cloud.hosting.docker import applied, marks
from cloud.hosting.docker.applied import Applied
from runtime.containers.engine import Engine
from runtime.containers.errors import EngineRefusedError, EngineUnreachableError
from runtime.containers.specs import ContainerSeen
from runtime.gateway.config import Config, Status


@dataclass(frozen=True)
class Inventory:
    """All that is there of one service."""

    service: str
    containers: tuple[ContainerSeen, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Those beside the gateway's configuration."""
    leaving: AbstractSet[str] = frozenset()
    """Ids of containers that are being sent away."""
    volumes: AbstractSet[str] = frozenset()
    networks: AbstractSet[str] = frozenset()

    @property
    def replicas(self) -> tuple[ContainerSeen, ...]:
        """Return all replicas, also those that leave."""
        return tuple(each for each in self.containers if marks.is_replica(each))

    @property
    def gateways(self) -> tuple[ContainerSeen, ...]:
        """Return all gateways, those that hold the network first."""
        found = [each for each in self.containers if marks.is_gateway(each)]
        return tuple(sorted(found, key=lambda each: (not marks.holds(each), each.name)))

    @property
    def installed(self) -> Config | None:
        """Return the configuration that the gateways are to follow."""
        return applied.config(self.files.get(marks.CONFIG_NAME))

    @property
    def applied(self) -> Applied | None:
        """Return what the target was told last."""
        return applied.decode(self.files.get(marks.APPLIED_NAME))

    @property
    def empty(self) -> bool:
        """Say whether there is nothing at all."""
        return not (self.containers or self.volumes or self.networks)

    def status(self, gateway: ContainerSeen) -> Status | None:
        """Return what a gateway says; None if it does not run, or has said nothing yet."""
        if not gateway.running:
            return None
        return applied.status(self.files.get(gateway.labels.get(marks.STATUS, "")))

    @property
    def serving(self) -> tuple[tuple[ContainerSeen, Status], ...]:
        """Return the gateways that take requests, and what they say."""
        found = ((each, self.status(each)) for each in self.gateways)
        return tuple((each, status) for each, status in found if status is not None)

    def in_force(self, generation: int) -> bool:
        """Say whether every gateway that may take requests follows at least this configuration."""
        return all(status.generation >= generation for _, status in self.serving)


def take(engine: Engine, service: str, leaving: AbstractSet[str] = frozenset()) -> Inventory:
    """Ask the engine; raises EngineErrors."""
    mark = {marks.SERVICE: service}
    containers = engine.containers(mark)
    return Inventory(
        service,
        containers,
        _files(engine, containers),
        leaving,
        frozenset(engine.volumes(mark)),
        frozenset(engine.networks(mark)),
    )


def _files(engine: Engine, containers: tuple[ContainerSeen, ...]) -> dict[str, bytes]:
    """Read the volume that all gateways have, through one that is not just being removed."""
    gateways = [each for each in containers if marks.is_gateway(each)]
    ordered = sorted(gateways, key=lambda each: (not marks.holds(each), each.name))
    read = (_read(engine, each.id) for each in ordered)
    found = next((files for files in read if files is not None), None)
    if found is None and gateways:
        raise EngineUnreachableError("the gateways are changing just now: look again")
    return found or {}


def _read(engine: Engine, gateway: str) -> dict[str, bytes] | None:
    try:
        return engine.read_files(gateway, marks.CONFIG_PATH)
    except EngineRefusedError:
        return None
