"""A version's check on a service: asked by the registry, or through its gateway from here.

The registry reaches a gateway wherever it can work on the place where the service runs: inside a
cluster too. From here (`url`) the answer is that of the way that clients take.
"""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cloud import shapes
from cloud.client import Client
from cloud.errors import WaitError
from cloud.verification import asking
from cloud.verification.asking import Server
from cloud.verification.findings import Finding
from cloud.verification.golden import Golden

KEY_PREFIX = "verify-"
KEY_S = 60.0
"""How long a new key may take to reach every gateway."""
POLL_S = 0.2


def serving(registry: Client, bundle: str, kind: str) -> list[tuple[str, str]]:
    """Return (service, revision) wherever a version is served on Docker or on Kubernetes."""
    found = []
    for service in registry.services():
        if service.target.kind != kind:
            continue
        detail = registry.service(service.name)
        found += [
            (service.name, revision.name)
            for revision in detail.revisions
            if revision.running and revision.bundle == bundle
        ]
    return found


def verify(registry: Client, service: str, *, revision: str, timeout_s: float) -> Finding:
    """Have the registry ask a revision its version's check, whatever its share of the traffic."""
    wish = shapes.NewVerification.make(revision=revision, timeout_s=timeout_s)
    (found,) = registry.verify_service(service, wish).items
    return Finding(found.where, found.ok, found.text, found.asked)


def verify_from_here(
    registry: Client, service: str, golden: Golden, *, revision: str, timeout_s: float, url: str
) -> Finding:
    """Return whether a revision answers the check as it must, asked at `url` from here.

    A service that wants keys gets one for the time of this.
    """
    detail = registry.service(service)
    where = f"service {service} {revision} ({detail.target.kind})"
    try:
        with _key(registry, detail) as key:
            server = Server(url, key, revision)
            with asking.from_here(server, timeout_s=timeout_s) as ask:
                return asking.verify(golden, ask, where)
    except WaitError as error:
        return Finding(where, ok=False, text=str(error), asked=False)


@contextmanager
def _key(registry: Client, detail: shapes.ServiceDetail) -> Iterator[str | None]:
    if detail.gateway.anonymous:
        yield None
        return
    name = f"{KEY_PREFIX}{secrets.token_hex(4)}"
    made = registry.add_service_key(detail.name, shapes.NewServiceKey.make(name=name))
    try:
        _await_in_force(registry, detail.name)
        yield made.key
    finally:
        registry.revoke_service_key(detail.name, name)


def _await_in_force(registry: Client, service: str) -> None:
    """Return once every gateway has what the registry wishes; raise WaitError if none will."""
    deadline, tick = time.monotonic() + KEY_S, threading.Event()
    while True:
        detail = registry.service(service)
        if detail.generation == detail.in_force:
            return
        if time.monotonic() > deadline:
            raise WaitError(f"{service}: its gateways do not take a new key: {detail.trouble}")
        tick.wait(POLL_S)
