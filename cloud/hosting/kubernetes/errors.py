"""What the API server's answers mean to whoever asked.

TargetError
├── UnreachableError       try again
│   ├── ExpiredError       410: what was watched is too old; list anew
│   └── ConflictError      409: somebody else changed it at the same moment
└── RefusedError           give up
    ├── AbsentError        404: it is not there
    ├── DeniedError        403: the cluster's RBAC lacks a right: verb, resource, and what to apply
    └── CredentialsError   401: the cluster does not know us, or the kubeconfig cannot be used
"""

import json
import re

from cloud.hosting.errors import RefusedError, TargetError, UnreachableError

_RIGHT = re.compile(
    r'cannot (?P<verb>[a-z]+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
)
MAX_TEXT = 1000
"""Characters of what a server says that are passed on."""
HTTP_UNAUTHORIZED, HTTP_FORBIDDEN, HTTP_ABSENT = 401, 403, 404
HTTP_CONFLICT, HTTP_GONE, HTTP_BUSY, HTTP_TIMEOUT = 409, 410, 429, 408
HTTP_FAILURE = 500


class ExpiredError(UnreachableError):
    """A resource version is too old to watch from."""


class ConflictError(UnreachableError):
    """Somebody else changed the object at the same moment."""


class AbsentError(RefusedError):
    """There is no such object, namespace or kind of object."""


class CredentialsError(RefusedError):
    """The cluster does not accept who we say that we are."""


class DeniedError(RefusedError):
    """The Role lacks a right."""

    def __init__(self, verb: str, resource: str, namespace: str) -> None:
        super().__init__(
            f"the cluster does not allow Packhorse to {verb} {resource} in namespace {namespace}: "
            "grant it by deploy/kubernetes/ (its README.md says how)"
        )
        self.verb, self.resource, self.namespace = verb, resource, namespace


def of_answer(status: int, body: bytes, *, doing: str, namespace: str) -> TargetError:
    """Return what an answer of 400 and above means; `doing`: "apply Deployment churn-r3"."""
    text, reason = _said(body)
    said = f"{doing} in namespace {namespace}: {text or f'the server answered {status}'}"
    right = _RIGHT.search(text)
    if status == HTTP_UNAUTHORIZED:
        return CredentialsError(
            f"{said}: the cluster does not accept these credentials: renew those in the kubeconfig"
        )
    if status == HTTP_FORBIDDEN and right is not None:
        group = right["group"]
        resource = f"{right['resource']}.{group}" if group else right["resource"]
        return DeniedError(right["verb"], resource, namespace)
    if status == HTTP_ABSENT:
        return AbsentError(_absent(said, text, namespace))
    if "field not declared in schema" in text:  # which comes as a 500
        return RefusedError(
            f"{said}: this cluster's Kubernetes is too old: 1.30 or newer is needed"
        )
    return _other(status, reason)(said)


def is_status(body: bytes) -> bool:
    """Say whether an error is the API server's own, and not what a pod behind it answered."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("kind") == "Status"


def _other(status: int, reason: str) -> type[TargetError]:
    if status == HTTP_CONFLICT:
        return ConflictError
    if status == HTTP_GONE or reason == "Expired":
        return ExpiredError
    if status in {HTTP_BUSY, HTTP_TIMEOUT} or status >= HTTP_FAILURE:
        return UnreachableError
    return RefusedError


def _said(body: bytes) -> tuple[str, str]:
    """Return message and reason of a Status, or the text of what is none."""
    try:
        status = json.loads(body)
    except (ValueError, RecursionError):
        status = None
    if not isinstance(status, dict):
        return _line(body.decode("utf-8", "replace")), ""
    return _line(str(status.get("message") or "")), str(status.get("reason") or "")


def _line(text: str) -> str:
    return " ".join(text.split())[:MAX_TEXT]


def _absent(said: str, text: str, namespace: str) -> str:
    if f'namespaces "{namespace}" not found' in text:
        return f"namespace {namespace} is not there: kubectl create namespace {namespace}"
    if "could not find the requested resource" in text or text == "404 page not found":
        return f"{said}: this cluster does not have that kind of object: install what brings it"
    return said
