"""A pretended cluster with a target before it, for tests of the Kubernetes target."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.hosting.kubernetes.pulling import Pulling
from cloud.hosting.kubernetes.target import KubernetesTarget
from cloud.hosting.targets import Observed, Place, Wish
from tests.support import kube
from tests.support.kube import Kube
from tests.support.kube_wishes import SERVICE

START = 1_767_225_600.0
"""2026-01-01T00:00:00Z, when all pods of the pretended cluster were made."""


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time in seconds since 1970."""
        return self.now


@dataclass
class Rig:
    """The cluster, the target, and the target's clock."""

    kube: Kube
    target: KubernetesTarget
    clock: Clock

    def apply(self, wish: Wish) -> list[str]:
        """Apply; return what was written."""
        self.kube.writes.clear()
        self.target.apply(wish)
        return list(self.kube.writes)

    def run(self, wish: Wish) -> str:
        """Apply, have all pods run and the gateways know; return the first gateway's pod."""
        self.target.apply(wish)
        for revision in wish.revisions:
            self.kube.pods.run_all(f"{SERVICE}-{revision.name}")
        gateways = self.kube.pods.run_all(f"{SERVICE}-gateway")
        for gateway in gateways:
            self.kube.pods.say(gateway, wish.gateway.generation)
        return gateways[0]

    def seen(self) -> Observed:
        """Observe the service."""
        return self.target.observe(SERVICE)

    def edit(self, plural: str, name: str, path: str, value: Any) -> None:
        """Change a field as somebody with kubectl would."""

        def change(found: dict[str, Any]) -> None:
            place: Any = found
            *parents, last = path.split(".")
            for step in parents:
                place = place[int(step)] if step.isdigit() else place[step]
            place[last] = value

        self.kube.store.edit(plural, name, change)


@contextmanager
def rig(directory: Path, *, pulling: Pulling | None = None) -> Iterator[Rig]:
    """Have a pretended cluster and a target before it."""
    with kube.running() as cluster:
        clock = Clock(START)
        target = KubernetesTarget(
            Place("kubernetes"),
            kubeconfig=cluster.kubeconfig(directory),
            pulling=pulling,
            clock=clock,
        )
        try:
            yield Rig(cluster, target, clock)
        finally:
            target.close()
            await_readers()


def await_readers() -> None:
    """Return once no thread reads from a cluster any more: a server is not to go before them."""
    for thread in threading.enumerate():
        if thread.name.startswith(("watch-", "log")):
            thread.join(20)
