"""Targets as the contract tests take them: each with what makes it move, and what is not ours.

A world is asked for wishes that its target can run, so that the tests name no image.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from msgspec import structs

from cloud.hosting.kubernetes.target import KubernetesTarget
from cloud.hosting.targets import Place, Target, Wish
from tests.support import kube, kube_fixtures, kube_wishes
from tests.support.kube import Kube
from tests.support.memory_target import MemoryTarget, line


class World(Protocol):
    """An engine or a cluster, and the target before it."""

    target: Target

    def wish(self, service: str, generation: int = 1) -> Wish:
        """Return a wish for one revision with all the traffic."""
        ...

    def settle(self, service: str) -> None:
        """Have what was applied run, or be gone if it was deleted; raise if it takes too long."""
        ...

    def ours(self) -> object:
        """Return all that has the target's marks, so that two such can be compared."""
        ...

    def add_foreign(self, service: str) -> None:
        """Have something of somebody else's, with the name that the service's own would have."""
        ...

    def foreign(self) -> object:
        """Return what is somebody else's, as it is now."""
        ...


class KubernetesWorld:
    """A pretended cluster; pods move when the test says so."""

    def __init__(self, cluster: Kube, directory: Path) -> None:
        self.kube = cluster
        self.target = KubernetesTarget(
            Place("kubernetes"), kubeconfig=cluster.kubeconfig(directory)
        )

    def wish(self, service: str, generation: int = 1) -> Wish:
        """Return a wish for one revision with all the traffic."""
        return kube_wishes.wish(generation, service=service)

    def settle(self, service: str) -> None:
        """Run or end pods, as scheduler and kubelet would."""
        for name in self.kube.names("deployments"):
            deployment = self.kube.get("deployments", name)
            if deployment["metadata"]["labels"]["packhorse.io/service"] != service:
                continue
            if deployment["metadata"].get("deletionTimestamp"):
                for pod in self.kube.pods.of(deployment):
                    self.kube.pods.end(pod)
                continue
            for pod in self.kube.pods.run_all(name):
                self.kube.pods.write(pod, "2026-01-01T00:00:01.5Z", f"{service} is served")
                self.tell(service, pod)

    def tell(self, service: str, pod: str, **more: Any) -> None:
        """Have a gateway's pod have the newest configuration in force; `more` of its status."""
        self.kube.pods.say(pod, self._generation(service), **more)

    def ours(self) -> object:
        """Return all objects with our label, without their pods."""
        return self._objects(lambda labels: labels.get("app.kubernetes.io/managed-by") is not None)

    def add_foreign(self, service: str) -> None:
        """Have a Service of somebody else's."""
        plain = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": service}}
        self.kube.store.put("services", {**plain, "spec": {"selector": {"app": "other"}}})

    def foreign(self) -> object:
        """Return all objects without our label."""
        return self._objects(lambda labels: "app.kubernetes.io/managed-by" not in labels)

    def _objects(self, wanted: Callable[[dict[str, str]], bool]) -> dict[Any, Any]:
        return {
            key: found
            for key, found in self.kube.store.objects.items()
            if wanted(found["metadata"].get("labels", {})) and key[0] != "pods"
        }

    def _generation(self, service: str) -> int:
        secret = self.kube.get("secrets", f"{service}-gateway")
        return int(secret["metadata"]["annotations"]["packhorse.io/generation"])


@contextmanager
def kubernetes(directory: Path) -> Iterator[KubernetesWorld]:
    """Have the Kubernetes target before a pretended cluster."""
    with kube.running() as cluster:
        world = KubernetesWorld(cluster, directory)
        try:
            yield world
        finally:
            world.target.close()
            kube_fixtures.await_readers()


class MemoryWorld:
    """The target in memory, where all that was applied runs at once."""

    def __init__(self) -> None:
        self.target: MemoryTarget = MemoryTarget()

    def wish(self, service: str, generation: int = 1) -> Wish:
        """Return a wish for one revision with all the traffic."""
        made = kube_wishes.wish(generation, service=service)
        return replace(made, gateway=structs.replace(made.gateway, anonymous=True))

    def settle(self, service: str) -> None:
        """Have the replica say something."""
        self.target.lines.append(line("r1-0", f"{service} is served"))

    def ours(self) -> object:
        """Return what is there."""
        return dict(self.target.there)

    def add_foreign(self, service: str) -> None:
        """Have the name be somebody else's."""
        self.target.foreign.add(service)

    def foreign(self) -> object:
        """Return the names of others."""
        return self.target.foreign


@contextmanager
def memory(_directory: Path) -> Iterator[World]:
    """Have the target in memory."""
    world = MemoryWorld()
    try:
        yield world
    finally:
        world.target.close()
