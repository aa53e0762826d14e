"""What an inventory says of a service: pure."""

from collections.abc import Mapping, Sequence

from cloud.hosting.docker import applied, marks
from cloud.hosting.docker.applied import Applied, AppliedRevision
from cloud.hosting.docker.inventory import Inventory
from cloud.hosting.targets import (
    GRPC_PORT,
    HTTP_PORT,
    Condition,
    Observed,
    ObservedRevision,
    Reason,
)
from runtime.containers.specs import ContainerSeen

IMAGE_MISSING = "ImageMissing"
_ANY = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - looked for, not listened on
_KILLED = 137


def observed(
    there: Inventory,
    *,
    logs: Mapping[str, tuple[str, ...]],
    missing: Mapping[str, str],
    host: str = "127.0.0.1",
) -> Observed:
    """Return what there is.

    `logs` are the last lines of containers that do not run, by id; `missing` are images that the
    engine has not, and why; `host` is where ports bound to every address can be reached.
    """
    if there.empty:
        return Observed(there.service, Condition.ABSENT)
    told = there.applied
    numbers = {marks.revision_of(each) for each in there.replicas}
    asked = {each.number: each for each in told.revisions} if told else {}
    revisions = tuple(
        _revision(there, number, asked.get(number), logs, missing)
        for number in sorted(numbers | set(asked))
    )
    ready = [each for each, status in there.serving if status.generation]
    generation = min((status.generation for _, status in there.serving), default=0)
    reasons = tuple(_gateway_reasons(there, told, logs, missing))
    return Observed(
        service=there.service,
        condition=_condition(revisions, told, bool(ready), reasons),
        endpoints=endpoints(there, host),
        revisions=revisions,
        gateway_wanted=1,
        gateway_ready=min(1, len(ready)),
        generation=generation // applied.SERIALS,
        reasons=reasons,
    )


def _condition(
    revisions: Sequence[ObservedRevision],
    told: Applied | None,
    gateway: bool,  # noqa: FBT001 - whether one answers
    reasons: Sequence[Reason],
) -> Condition:
    """Return how a client meets the service: by the revisions that have traffic."""
    weights = told.weights if told else {}
    carrying = [each for each in revisions if weights.get(f"r{each.number}")] or list(revisions)
    seen = {each.condition for each in carrying}
    if gateway and seen == {Condition.READY}:
        return Condition.READY if not reasons else Condition.DEGRADED
    if gateway and any(each.ready for each in carrying):
        return Condition.DEGRADED if Condition.STARTING not in seen else Condition.STARTING
    if Condition.FAILING in seen or reasons:
        return Condition.FAILING
    return Condition.STARTING


def _revision(
    there: Inventory,
    number: int,
    asked: AppliedRevision | None,
    logs: Mapping[str, tuple[str, ...]],
    missing: Mapping[str, str],
) -> ObservedRevision:
    mine = [each for each in there.replicas if marks.revision_of(each) == number]
    staying = [each for each in mine if each.id not in there.leaving]
    wanted = asked.wanted if asked else len(staying)
    ready = [each for each in mine if answers(there, each)]
    reasons = [reason for each in staying for reason in _reasons(each, logs)]
    image = asked.image if asked else next((each.image_reference for each in mine), "")
    if image in missing and len(staying) < wanted:
        reasons.append(Reason(IMAGE_MISSING, missing[image]))
    labels = mine[0].labels if mine else {}
    version = labels.get(marks.VERSION, "")
    return ObservedRevision(
        number=number,
        condition=_revision_condition(wanted, len(ready), reasons),
        wanted=wanted,
        ready=len(ready),
        image=image,
        model=asked.model if asked else labels.get(marks.MODEL, ""),
        version=asked.version if asked else int(version) if version.isdecimal() else 0,
        bundle=asked.bundle if asked else labels.get(marks.BUNDLE, ""),
        reasons=tuple(reasons),
        drifted=tuple(_drifted(there, staying, asked, missing)),
    )


def _revision_condition(wanted: int, ready: int, reasons: Sequence[Reason]) -> Condition:
    if ready >= wanted and wanted and not reasons:
        return Condition.READY
    if ready >= wanted:
        return Condition.DEGRADED if reasons else Condition.ABSENT
    if ready:
        return Condition.DEGRADED if reasons else Condition.STARTING
    return Condition.FAILING if reasons else Condition.STARTING


def answers(there: Inventory, replica: ContainerSeen) -> bool:
    """Say whether requests reach a replica: every gateway that takes some finds it well."""
    if not replica.running:
        return False
    number, place = marks.revision_of(replica), marks.place_of(replica)
    # A gateway says which addresses its names have led it to.
    hosts = (marks.alias(number, place), *replica.addresses)
    own = {f"[{host}]:{HTTP_PORT}" if ":" in host else f"{host}:{HTTP_PORT}" for host in hosts}
    serving = [status for _, status in there.serving if f"r{number}" in status.healthy]
    return bool(serving) and all(own & set(each.healthy[f"r{number}"]) for each in serving)


def _reasons(replica: ContainerSeen, logs: Mapping[str, tuple[str, ...]]) -> list[Reason]:
    """Return why a replica does not answer, as far as the engine knows."""
    last = logs.get(replica.id, ())
    if replica.error:
        return [Reason("StartFailed", replica.error, replica.name, replica.exit_code, last)]
    failed = replica.state in {"exited", "restarting", "dead"} or replica.restarts > 0
    if replica.running and replica.health == "unhealthy":
        text = "it runs and does not answer its health check: see its log"
        return [Reason("Unhealthy", text, replica.name, None, last)]
    if not failed or (replica.running and not last):
        return []
    if replica.oom_killed:
        text = f"it used more than its {replica.memory_mb} MB: give it more memory"
        return [Reason("OOMKilled", text, replica.name, replica.exit_code, last)]
    if replica.running:
        text = f"it was restarted {replica.restarts} times, and has not answered since"
        return [Reason("CrashLoop", text, replica.name, None, last)]
    killed = " (killed)" if replica.exit_code == _KILLED else ""
    text = f"it ended with exit code {replica.exit_code}{killed}: see its log"
    return [Reason("Exited", text, replica.name, replica.exit_code, last)]


def _drifted(
    there: Inventory,
    staying: Sequence[ContainerSeen],
    asked: AppliedRevision | None,
    missing: Mapping[str, str],
) -> list[str]:
    """Return what somebody else changed."""
    if asked is None:
        return []
    found = []
    if len(staying) < asked.wanted and asked.image not in missing:
        found.append(f"r{asked.number}: {asked.wanted - len(staying)} removed")
    for each in staying:
        if each.state in {"exited", "paused"} and not each.error:
            found.append(
                f"{each.name}: stopped" if each.state == "exited" else f"{each.name}: paused"
            )
        if marks.network(there.service) not in each.networks:
            found.append(f"{each.name}: network")
        if each.cpu != (asked.cpu or None):
            found.append(f"{each.name}: cpu")
        if each.memory_mb != (asked.memory_mb or None):
            found.append(f"{each.name}: memory")
        if each.restart != "always":
            found.append(f"{each.name}: restart policy")
    return found


def _gateway_reasons(
    there: Inventory,
    told: Applied | None,
    logs: Mapping[str, tuple[str, ...]],
    missing: Mapping[str, str],
) -> list[Reason]:
    reasons = [reason for each in there.gateways for reason in _reasons(each, logs)]
    reasons += [
        Reason("BadConfiguration", status.trouble, each.name)
        for each, status in there.serving
        if status.trouble
    ]
    if not there.gateways:
        why = missing.get(told.gateway_image, "") if told else ""
        text = why or "there is no gateway: it is made when the service is applied"
        reasons.append(Reason(IMAGE_MISSING if why else "NoGateway", text))
    return reasons


def endpoints(there: Inventory, host: str) -> tuple[str, ...]:
    """Return the URLs at which the gateways can be reached."""
    found: dict[str, None] = {}
    for each in there.gateways:
        if each.id in there.leaving:
            continue
        for inside, scheme in ((HTTP_PORT, "http"), (GRPC_PORT, "grpc")):
            if inside in each.ports:
                address, port = each.ports[inside]
                shown = host if address in _ANY else address
                found[f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}"] = None
    return tuple(found)
