"""A wish as Kubernetes objects: a pure function, so that what is exported is what is applied.

    clients ──► Service churn ──► gateway pods ──► churn-r3-each (each replica)  ─┐
                                       └─────────► churn-r3 (any replica)  ───────┴► replica pods

A revision has two Services because each does what the other cannot. The headless one gives the
gateway every replica's address, so that it can choose the least busy, leave out one that hangs and
use a new one; but what DNS answers may be 30 s old. The other's address never changes, and
kube-proxy sends what comes there to whichever replica lives, even if all are just ending.
"""

import msgspec

from cloud.hosting.errors import RefusedError
from cloud.hosting.kubernetes import checks, gatewayparts, kinds, marks, names, revisionparts
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.kubernetes.pulling import Pulling
from cloud.hosting.targets import GRPC_PORT, HTTP_PORT, Wish
from runtime.gateway import config
from runtime.gateway.config import Config


def build(wish: Wish, pulling: Pulling | None = None) -> list[Manifest]:
    """Return all objects of a wish in the order in which they are made.

    Raise RefusedError naming what Kubernetes would not take.
    """
    checks.require_sane(wish)
    pulling = pulling or Pulling()
    pulls = pulling.secrets
    made = [gatewayparts.account(wish)]
    if pulling.config is not None:
        pulls = (names.pull(wish.service), *pulls)
        made.append(gatewayparts.pull_secret(wish, pulling.config))
    for revision in wish.revisions:
        parts = revisionparts.build(wish, revision, pulls)
        made += _counted(parts)
    made += _counted(gatewayparts.build(wish, gateway_config(wish), pulls))
    order = {kind.name: position for position, kind in enumerate(kinds.MADE)}
    made.sort(key=lambda manifest: order[manifest["kind"]])
    return [marks.with_applied(manifest) for manifest in made]


def gateway_config(wish: Wish) -> Config:
    """Return the gateway's configuration with the addresses of its revisions' replicas."""
    running = {revision.name: revision.number for revision in wish.revisions}
    lost = [entry.name for entry in wish.gateway.revisions if entry.name not in running]
    if lost:
        raise RefusedError(
            f"{wish.service}: the gateway names {', '.join(lost)}, which shall not run: "
            "list the revision, or take it out of the traffic"
        )
    return msgspec.structs.replace(
        wish.gateway,
        revisions=tuple(
            _reached(entry, wish.service, running[entry.name]) for entry in wish.gateway.revisions
        ),
    )


def _reached(entry: config.Revision, service: str, number: int) -> config.Revision:
    hosts = (names.each(service, number), names.revision(service, number))
    return msgspec.structs.replace(
        entry,
        backends=tuple(f"{host}:{HTTP_PORT}" for host in hosts),
        grpc_backends=tuple(f"{host}:{GRPC_PORT}" for host in hosts),
    )


def _counted(parts: list[Manifest]) -> list[Manifest]:
    """Write on the Deployment what else there is beside it."""
    others = ",".join(sorted(f"{part['kind']}/{kinds.name(part)}" for part in parts))
    for part in parts:
        if part["kind"] == kinds.DEPLOYMENT.name:
            part["metadata"]["annotations"][marks.PARTS] = others
    return parts
