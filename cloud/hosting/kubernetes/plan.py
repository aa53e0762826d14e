"""What has to be done so that a cluster is like a wish: a pure function of both.

    wanted ─┐                ┌─ refuse   somebody else's object has the name
            ├──► decide() ───┼─ apply    missing, or not as wanted
    found  ─┘                └─ delete   ours, no longer wanted, and without traffic

The objects of a revision that goes are kept until every gateway has a configuration without it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cloud.hosting.kubernetes import drift, kinds, marks
from cloud.hosting.kubernetes.kinds import Manifest

Id = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True)
class Plan:
    """What to do, in this order."""

    unknown: tuple[Manifest, ...]
    """Wanted and not among ours: it is to be seen first whether somebody else has them."""
    apply: tuple[Manifest, ...]
    """In the order of kinds.MADE; `unknown` are among them."""
    waiting: tuple[Manifest, ...]
    """Wanted, but what has the name is just being deleted: another time."""
    delete: tuple[Manifest, ...]
    """What is there and has no use any more, in the opposite order."""
    kept: tuple[Manifest, ...]
    """What goes once no gateway sends anything there."""
    hand_over: tuple[Manifest, ...]
    """Deployments, as they are, whose number of replicas the autoscaler takes over."""


def decide(wanted: list[Manifest], found: Iterable[Manifest], *, released: bool) -> Plan:
    """Return what to do; `released`: all gateways have the configuration that is wanted.

    `found` are the objects that have our labels.
    """
    there = {key(manifest): manifest for manifest in found}
    going = {name for name, manifest in there.items() if _is_going(manifest)}
    applied, waiting, unknown, handed = [], [], [], []
    for manifest in wanted:
        name = key(manifest)
        if name in going:
            waiting.append(manifest)
        elif name not in there:
            unknown.append(manifest)
            applied.append(manifest)
        elif not drift.is_as_wanted(manifest, there[name]):
            applied.append(manifest)
            if _gives_up_replicas(manifest, there[name]):
                handed.append(there[name])
    surplus = _surplus(wanted, [manifest for name, manifest in there.items() if name not in going])
    free = [manifest for manifest in surplus if released or not _may_have_traffic(manifest)]
    kept = [manifest for manifest in surplus if manifest not in free]
    return Plan(
        tuple(unknown), tuple(applied), tuple(waiting), tuple(free), tuple(kept), tuple(handed)
    )


def removal(found: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """Return all that is to be deleted of a service, in order: first what clients meet."""
    return tuple(_surplus([], [manifest for manifest in found if not _is_going(manifest)]))


def key(manifest: Manifest) -> Id:
    """Return what tells an object from the others of its namespace."""
    return manifest["kind"], kinds.name(manifest)


def _surplus(wanted: list[Manifest], there: list[Manifest]) -> list[Manifest]:
    kept = {key(manifest) for manifest in wanted}
    order = {kind.name: position for position, kind in enumerate(kinds.MADE)}
    surplus = [manifest for manifest in there if key(manifest) not in kept]
    return sorted(surplus, key=lambda manifest: -order[manifest["kind"]])


def _is_going(manifest: Manifest) -> bool:
    return bool(manifest["metadata"].get("deletionTimestamp"))


def _may_have_traffic(manifest: Manifest) -> bool:
    """Return whether requests may fail without it. An autoscaler or a budget serves nobody."""
    serving = {kinds.AUTOSCALER.name, kinds.BUDGET.name}
    return marks.revision(manifest) is not None and manifest["kind"] not in serving


def _gives_up_replicas(wanted: Manifest, found: Manifest) -> bool:
    """Return whether a number of replicas that we set is to be another's from now on.

    What we stop to set and nobody else owns falls back to its default: 1 replica.
    """
    if wanted["kind"] != kinds.DEPLOYMENT.name or "replicas" in wanted["spec"]:
        return False
    before = marks.applied(found) or {}
    return "replicas" in before.get("spec", {})
