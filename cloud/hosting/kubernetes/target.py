"""Services on Kubernetes: cloud.hosting.targets.Target by way of the API server.

    apply    list ours ─► plan ─► apply in order ─► nudge gateways ─► delete what is free
    observe  list ours ─► ask about pods that do not answer ─► read

What is there is asked each time; nothing is remembered. A revision that is no longer wished stays
until all gateways have a configuration without it: `apply` has to be called again then.
"""

import logging
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from cloud.hosting.errors import RefusedError, TargetError, UnreachableError
from cloud.hosting.kubernetes import (
    kinds,
    logs,
    manifests,
    marks,
    names,
    nudging,
    plan,
    reading,
    statuses,
    troubles,
    watching,
)
from cloud.hosting.kubernetes.cluster import Cluster
from cloud.hosting.kubernetes.errors import CredentialsError, DeniedError
from cloud.hosting.kubernetes.feeds import Tap
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.kubernetes.pulling import Pulling
from cloud.hosting.kubernetes.requests import Asking
from cloud.hosting.kubernetes.snapshot import Snapshot
from cloud.hosting.targets import LogLine, Observed, Place, Question, Reason, Wish
from runtime.gateway.config import Status

log = logging.getLogger(__name__)

MAX_ASKED = 6
"""Pods of a service about which more is asked than the list says."""


class KubernetesTarget:
    """A namespace of a cluster that runs services."""

    def __init__(
        self,
        place: Place,
        *,
        kubeconfig: Path | None = None,
        pulling: Pulling | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read who the cluster is; raise RefusedError if the kubeconfig cannot be used.

        Without `kubeconfig`: $KUBECONFIG, ~/.kube/config, or the cluster in which this runs.
        """
        # the kubernetes package costs 0.6 s and 48 MB, which no other target needs
        from cloud.hosting.kubernetes.door import Door  # noqa: PLC0415

        door = Door(kubeconfig, place.context)
        self._asking: Asking = door
        self._cluster = Cluster(door, place.namespace or door.namespace)
        self._pulling = pulling or Pulling()
        self._clock = clock
        self._taps: weakref.WeakSet[Tap[str] | Tap[LogLine]] = weakref.WeakSet()

    def apply(self, wish: Wish) -> None:
        """Make what is there like the wish, as far as can be done without waiting."""
        wanted = manifests.build(wish, self._pulling)
        seen = self._seen(wish.service)
        generation = wish.gateway.generation
        todo = plan.decide(wanted, seen.objects, released=reading.is_released(seen, generation))
        for manifest in todo.unknown:
            self._require_free(manifest, wish.service)
        for deployment in todo.hand_over:
            self._cluster.hand_over(deployment)
        for manifest in todo.apply:
            self._cluster.apply(manifest)
        for pod, note in nudging.needed(seen, generation):
            self._cluster.annotate_pod(pod, {marks.NUDGE: note})
        for manifest in todo.delete:
            self._cluster.delete(manifest)
        if todo.apply or todo.delete or todo.waiting or todo.kept:
            log.info(
                "service applied",
                extra={
                    "service": wish.service,
                    "namespace": self._cluster.namespace,
                    "applied": len(todo.apply),
                    "deleted": len(todo.delete),
                    "waiting": len(todo.waiting) + len(todo.kept),
                },
            )

    def observe(self, service: str) -> Observed:
        """Return what is there; a service of which there is nothing is ABSENT."""
        seen = self._seen(service)
        return reading.read(replace(seen, troubles=self._troubles(seen)))

    def services(self) -> tuple[str, ...]:
        """Return the names of all of which there is something."""
        found = [
            marks.service(manifest)
            for kind in kinds.MADE
            for manifest in self._cluster.listed(kind, watching.OURS, bare=True)[0]
        ]
        return tuple(sorted({name for name in found if name is not None}))

    def statuses(self, service: str) -> tuple[Status, ...]:
        """Return what each gateway that answers says of itself."""
        pods = self._cluster.find(kinds.POD, names.gateways(service))
        return tuple(self._statuses(pods).values())

    def ask(self, service: str, revision: int, question: Question) -> tuple[int, bytes]:
        """Have a revision answer through a gateway's pod, by way of the API server.

        Not a replica's pod: its NetworkPolicy lets nobody in but the gateways.
        """
        pods = self._cluster.find(kinds.POD, names.gateways(service))
        ready = [each for each in pods if troubles.is_ready(each) and not troubles.is_going(each)]
        if not ready:
            raise UnreachableError(f"{service}: no gateway of it is ready")
        return self._cluster.ask_gateway(kinds.name(ready[0]), question, f"r{revision}")

    def logs(
        self, service: str, *, revision: int | None, follow: bool, tail: int
    ) -> Iterator[LogLine]:
        """Yield what the replicas wrote, then (`follow`) what they write."""
        selector = (
            names.selector(service) if revision is None else names.replicas(service, revision)
        )
        if not follow:
            return logs.written(self._cluster, selector, tail)
        tap = logs.followed(self._cluster, selector, tail)
        self._taps.add(tap)
        return tap

    def delete(self, service: str) -> None:
        """Remove exactly what was made for it."""
        for manifest in plan.removal(self._objects(service)):
            self._cluster.delete(manifest)

    def changes(self) -> Iterator[str]:
        """Yield a service's name each time something of it changes, until the link breaks."""
        tap = watching.changes(self._cluster)
        self._taps.add(tap)
        return tap

    def close(self) -> None:
        """End what is being read, and let go of connections."""
        for tap in list(self._taps):
            tap.close()
        self._asking.close()

    def _objects(self, service: str) -> tuple[Manifest, ...]:
        """Return all objects of a service, as labels and annotation say together."""
        selector = names.selector(service)
        found = [one for kind in kinds.MADE for one in self._cluster.find(kind, selector)]
        return tuple(one for one in found if marks.service(one) == service)

    def _seen(self, service: str) -> Snapshot:
        objects = self._objects(service)
        pods = tuple(self._cluster.find(kinds.POD, names.selector(service))) if objects else ()
        seen = Snapshot(service, self._cluster.namespace, self._clock(), objects, pods)
        return replace(seen, statuses=self._statuses(seen.gateway_pods()))

    def _statuses(self, pods: list[Manifest]) -> dict[str, Status]:
        named = [kinds.name(pod) for pod in pods if troubles.is_running(pod)]
        found = ((name, self._status(name)) for name in named)
        return {name: status for name, status in found if status is not None}

    def _status(self, pod: str) -> Status | None:
        try:
            return statuses.read(self._cluster.gateway_status(pod))
        except (DeniedError, CredentialsError):
            raise
        except (TargetError, ValueError, RecursionError) as error:
            log.debug("gateway says nothing", extra={"pod": pod, "error": str(error)})
            return None

    def _troubles(self, seen: Snapshot) -> dict[str, Reason]:
        """Return why pods do not answer; of many, more is asked about the first alone."""
        asked, found = 0, {}
        for pod in seen.pods:
            needs = troubles.needs(pod, seen.now)
            worth = asked < MAX_ASKED
            asked += needs.warnings or needs.log
            warnings = self._cluster.warnings(pod) if needs.warnings and worth else []
            lines = self._last_log(pod, previous=needs.previous) if needs.log and worth else []
            reason = troubles.of_pod(pod, warnings, lines, seen.now)
            if reason is not None:
                found[kinds.name(pod)] = reason
        return found

    def _last_log(self, pod: Manifest, *, previous: bool) -> list[str]:
        container = pod["spec"]["containers"][0]["name"]
        try:
            return self._cluster.last_log(
                kinds.name(pod), container, troubles.LOG_LINES, previous=previous
            )
        except DeniedError:
            raise
        except TargetError as error:  # the node has thrown it away, or does not answer
            log.debug("no log", extra={"pod": kinds.name(pod), "error": str(error)})
            return []

    def _require_free(self, wanted: Manifest, service: str) -> None:
        """Raise RefusedError if somebody else's object has the name.

        One of the service's own that was not found by its labels has lost one: it gets it back.
        """
        found = self._cluster.get(kinds.of(wanted), kinds.name(wanted))
        owner = marks.service(found) if found else None
        if found is None or owner == service:
            return
        whose = "is not Packhorse's" if owner is None else f"belongs to service {owner}"
        raise RefusedError(
            f"{kinds.title(wanted)} in namespace {self._cluster.namespace} {whose}: "
            "give the service another name, or remove that object"
        )
