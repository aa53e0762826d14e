"""What Kubernetes would refuse, found before anything is sent: the message names the field."""

import re

from cloud.hosting.errors import RefusedError
from cloud.hosting.kubernetes import names, routes
from cloud.hosting.targets import RevisionWish, Wish

MAX_NUMBER = 999_999_999
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
MAX_HOST = 253
MAX_SECRETS_BYTES = 1 << 20
"""What a Secret may hold."""


def require_sane(wish: Wish) -> None:
    """Raise RefusedError naming the field, its value and what would be taken."""
    if not wish.gateway_image:
        _refuse("gateway_image", wish.gateway_image, "name the gateway's image")
    if wish.gateway_replicas < 1:
        _refuse("gateway_replicas", wish.gateway_replicas, "use at least 1")
    numbers = [revision.number for revision in wish.revisions]
    if len(set(numbers)) != len(numbers):
        _refuse("revisions", numbers, "number each revision once")
    for revision in wish.revisions:
        _require_revision(revision)
    if wish.route is not None:
        host = wish.route.host
        if not _HOST.fullmatch(host) or len(host) > MAX_HOST:
            _refuse("route.host", host, "write a DNS name in small letters")
        if wish.route.gateway_api is not None:
            routes.parent(wish.route.gateway_api)


def _require_revision(revision: RevisionWish) -> None:
    scale, resources = revision.scale, revision.resources
    most, cpu, memory = scale.most, resources.cpu, resources.memory_mb
    checks: tuple[tuple[bool, str, object, str], ...] = (
        (1 <= revision.number <= MAX_NUMBER, "number", revision.number, f"use 1 to {MAX_NUMBER}"),
        (bool(revision.image), "image", revision.image, "name an image that the cluster can pull"),
        (scale.least >= 1, "scale.least", scale.least, "use at least 1"),
        (most is None or most >= scale.least, "scale.most", most, f"at least {scale.least}"),
        (scale.cpu_percent >= 1, "scale.cpu_percent", scale.cpu_percent, "use at least 1"),
        (cpu is None or cpu > 0, "resources.cpu", cpu, "use more than 0 cores"),
        (memory is None or memory > 0, "resources.memory_mb", memory, "use more than 0 MiB"),
        (resources.gpus >= 0, "resources.gpus", resources.gpus, "use 0 or more"),
    )
    for fine, field, value, fix in checks:
        if not fine:
            _refuse(f"{revision.name}.{field}", value, fix)
    _require_variables(revision)
    for key, value in revision.node_selector.items():
        if not _LABEL_KEY.fullmatch(key) or names.label(value) != value:
            _refuse(
                f"{revision.name}.node_selector", f"{key}={value}", "use a node's label as it is"
            )


def _require_variables(revision: RevisionWish) -> None:
    for field, given in (("env", revision.env), ("secrets", revision.secrets)):
        for name in given:
            if not _VARIABLE.fullmatch(name):
                _refuse(
                    f"{revision.name}.{field}", name, "name it with letters, digits, '_', '-', '.'"
                )
    twice = sorted(set(revision.env) & set(revision.secrets))
    if twice:
        _refuse(f"{revision.name}.secrets", twice[0], "give it as env or as secret, not both")
    size = sum(len(name) + len(value.encode()) for name, value in revision.secrets.items())
    if size > MAX_SECRETS_BYTES:
        _refuse(f"{revision.name}.secrets", f"{size} bytes", f"use at most {MAX_SECRETS_BYTES}")


def _refuse(field: str, value: object, fix: str) -> None:
    raise RefusedError(f"{field}: {value!r} is not accepted: {fix}")
