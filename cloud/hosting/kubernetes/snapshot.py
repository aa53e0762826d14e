"""What was seen of one service, all at about the same time."""

import json
from dataclasses import dataclass, field

from cloud.hosting.kubernetes import kinds, marks, names
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.targets import Reason
from runtime.gateway.config import Status


@dataclass(frozen=True)
class Snapshot:
    """A service's objects and pods, and what was asked beside."""

    service: str
    namespace: str
    now: float
    objects: tuple[Manifest, ...] = ()
    """All that Packhorse made of it."""
    pods: tuple[Manifest, ...] = ()
    statuses: dict[str, Status] = field(default_factory=dict)
    """By gateway pod, of those that answered."""
    troubles: dict[str, Reason] = field(default_factory=dict)
    """By pod, of those that do not answer and of which it is known why."""

    def gateway_pods(self) -> list[Manifest]:
        """Return the pods of gateways."""
        return [pod for pod in self.pods if marks.labels(pod).get(names.COMPONENT) == names.GATEWAY]

    def replicas(self, number: int) -> list[Manifest]:
        """Return the pods of a revision."""
        return [pod for pod in self.pods if marks.revision(pod) == number]

    def one(self, kind: kinds.Kind, name: str) -> Manifest | None:
        """Return one of the objects."""
        for manifest in self.objects:
            if manifest["kind"] == kind.name and kinds.name(manifest) == name:
                return manifest
        return None

    def weights(self) -> dict[str, int]:
        """Return the weights of the configuration that was last written for the gateways."""
        secret = self.one(kinds.SECRET, names.gateway(self.service))
        try:
            read = json.loads(marks.annotations(secret or {"metadata": {}}).get(marks.TRAFFIC, ""))
        except ValueError:
            return {}
        entries = read.items() if isinstance(read, dict) else ()
        return {str(name): int(weight) for name, weight in entries if isinstance(weight, int)}
