"""What a service is like, from what was seen of it: pure, and never from what was asked for."""

from cloud.hosting.kubernetes import drift, kinds, marks, names, routes, scaling, troubles
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.kubernetes.snapshot import Snapshot
from cloud.hosting.targets import (
    GRPC_PORT,
    Condition,
    Observed,
    ObservedRevision,
    Reason,
)

UNREACHED_S = 60.0
"""A ready replica that no gateway reaches for so long is a trouble; before, DNS may lag."""
DRIFTED = "Drifted"
GOING = "Terminating"


def read(seen: Snapshot) -> Observed:
    """Return what is there of a service."""
    if not seen.objects:
        return Observed(seen.service, Condition.ABSENT)
    revisions = tuple(_revision(seen, number) for number in _numbers(seen))
    gateway = seen.one(kinds.DEPLOYMENT, names.gateway(seen.service))
    wanted, ready = scaling.counted(gateway, None)
    reasons = scaling.reasons(
        gateway, [seen.troubles.get(kinds.name(p)) for p in seen.gateway_pods()]
    )
    if gateway is None:
        condition = Condition.FAILING
        reasons.append(Reason("Missing", "its gateway is not there: apply it again"))
    elif troubles.is_going(gateway):
        condition = Condition.DEGRADED
        reasons.append(Reason(GOING, "it is being removed"))
    else:
        own = _combined(ready, wanted, reasons)
        reasons += [*_routes(seen), *_drifted(seen)]
        condition = _as_clients_meet_it(own, revisions, seen.weights())
    return Observed(
        seen.service,
        condition,
        endpoints=_endpoints(seen),
        revisions=revisions,
        gateway_wanted=wanted,
        gateway_ready=ready,
        generation=generation(seen),
        reasons=tuple(reasons),
    )


def generation(seen: Snapshot) -> int:
    """Return that of the configuration which all gateways have in force; 0: not all, or none."""
    running = [pod for pod in seen.gateway_pods() if troubles.is_running(pod)]
    return min(
        (
            seen.statuses[name].generation if name in seen.statuses else 0
            for name in map(kinds.name, running)
        ),
        default=0,
    )


def is_released(seen: Snapshot, wanted: int) -> bool:
    """Return whether no gateway can send anything by a configuration older than this.

    A gateway that runs and does not answer may have an old one; so may one that is ending.
    """
    running = any(troubles.is_running(pod) for pod in seen.gateway_pods())
    return not running or generation(seen) >= wanted


def _numbers(seen: Snapshot) -> list[int]:
    numbers = {marks.revision(manifest) for manifest in seen.objects}
    return sorted(number for number in numbers if number is not None)


def _revision(seen: Snapshot, number: int) -> ObservedRevision:
    name = names.revision(seen.service, number)
    deployment = seen.one(kinds.DEPLOYMENT, name)
    autoscaler = seen.one(kinds.AUTOSCALER, name)
    own = [manifest for manifest in seen.objects if marks.revision(manifest) == number]
    facts = marks.annotations(deployment or own[0])
    wanted, ready = scaling.counted(deployment, autoscaler)
    found = [seen.troubles.get(kinds.name(pod)) for pod in seen.replicas(number)]
    reasons = scaling.reasons(deployment, found)
    drifted = [change for manifest in own for change in drift.of(manifest)]
    if deployment is None:
        condition = Condition.ABSENT
        drifted.append(f"Deployment {name}: missing")
    elif troubles.is_going(deployment):
        condition, drifted = Condition.DEGRADED if ready else Condition.STARTING, []
        reasons.append(Reason(GOING, "it is being removed"))
    else:
        condition = _combined(ready, wanted, reasons)
        drifted += _missing(seen, deployment)
        if condition is Condition.READY:
            condition, unreached = _reached(seen, number)
            reasons += unreached
    reasons += scaling.notes(autoscaler, seen.now)
    version = facts.get(marks.VERSION, "")
    return ObservedRevision(
        number,
        condition,
        wanted,
        ready,
        image=facts.get(marks.IMAGE, ""),
        model=facts.get(marks.MODEL, ""),
        version=int(version) if version.isascii() and version.isdigit() else 0,
        bundle=facts.get(marks.BUNDLE, ""),
        reasons=tuple(reasons),
        drifted=tuple(drifted),
    )


def _combined(ready: int, wanted: int, reasons: list[Reason]) -> Condition:
    if ready >= wanted > 0 and not reasons:
        return Condition.READY
    if not reasons:
        return Condition.STARTING
    return Condition.DEGRADED if ready else Condition.FAILING


def _reached(seen: Snapshot, number: int) -> tuple[Condition, list[Reason]]:
    """Return whether a revision whose replicas are ready also answers its gateways."""
    name = f"r{number}"
    cut_off = [
        pod
        for pod, status in sorted(seen.statuses.items())
        if name in status.healthy and not status.healthy[name]
    ]
    if not cut_off:
        return Condition.READY, []
    for_s = max((troubles.ready_s(pod, seen.now) for pod in seen.replicas(number)), default=0.0)
    if for_s < UNREACHED_S:
        return Condition.STARTING, []
    text = f"ready, but {', '.join(cut_off)} cannot reach it: check DNS and network policies"
    return Condition.FAILING, [Reason("Unreached", text)]


def _as_clients_meet_it(
    gateway: Condition, revisions: tuple[ObservedRevision, ...], weights: dict[str, int]
) -> Condition:
    """Return a service's condition: its gateway's, or that of the revisions with traffic."""
    if gateway not in {Condition.READY, Condition.DEGRADED}:
        return gateway
    there = {f"r{revision.number}": revision.condition for revision in revisions}
    used = {there.get(name, Condition.ABSENT) for name, weight in weights.items() if weight > 0}
    if not used or used == {Condition.STARTING}:
        return Condition.STARTING
    if used == {Condition.READY}:
        return gateway
    if used & {Condition.READY, Condition.DEGRADED}:
        return Condition.DEGRADED
    return Condition.FAILING


def _endpoints(seen: Snapshot) -> tuple[str, ...]:
    urls = [
        url
        for manifest in seen.objects
        if manifest["kind"] in {kinds.HTTP_ROUTE.name, kinds.INGRESS.name}
        and (url := routes.url(manifest)) is not None
    ]
    name = names.base(seen.service)
    if seen.one(kinds.SERVICE, name) is not None:
        inside = f"{name}.{seen.namespace}.svc"
        urls += [f"http://{inside}", f"grpc://{inside}:{GRPC_PORT}"]
    return tuple(urls)


def _routes(seen: Snapshot) -> list[Reason]:
    """Return why a Gateway does not take an HTTPRoute."""
    refused = []
    for manifest in seen.objects:
        if manifest["kind"] != kinds.HTTP_ROUTE.name:
            continue
        for parent in manifest.get("status", {}).get("parents") or []:
            refused += [
                Reason(str(one.get("reason", "")), f"the Gateway refuses: {one.get('message', '')}")
                for one in parent.get("conditions") or []
                if one.get("type") in {"Accepted", "ResolvedRefs"} and one.get("status") == "False"
            ]
    return refused


def _drifted(seen: Snapshot) -> list[Reason]:
    """Return what somebody changed that belongs to no revision."""
    own = [manifest for manifest in seen.objects if marks.revision(manifest) is None]
    changes = [change for manifest in own for change in drift.of(manifest)]
    gateway = seen.one(kinds.DEPLOYMENT, names.gateway(seen.service))
    if gateway is not None:
        changes += _missing(seen, gateway)
    return [
        Reason(DRIFTED, f"somebody changed {change}: it will be put back") for change in changes
    ]


def _missing(seen: Snapshot, deployment: Manifest) -> list[str]:
    """Return which objects are gone that were made together with this one."""
    there = {f"{one['kind']}/{kinds.name(one)}" for one in seen.objects}
    parts = marks.annotations(deployment).get(marks.PARTS, "").split(",")
    return [f"{part.replace('/', ' ')}: missing" for part in parts if part and part not in there]
