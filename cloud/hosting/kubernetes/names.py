"""What Packhorse's objects are called in a cluster, and how they are known again.

    service "churn", revision 3
      churn              Service, ServiceAccount, HTTPRoute or Ingress
      churn-gateway      Deployment, Secret, NetworkPolicy, PodDisruptionBudget
      churn-pull         Secret, if images need a password
      churn-r3           Deployment, Service, NetworkPolicy, HPA, PodDisruptionBudget
      churn-r3-each      headless Service
      churn-r3-env       Secret, if there are secret variables

A name that Kubernetes would refuse, or that could be another service's, is cut and gets a hash of
the whole; the label and the annotation still say whose it is. Whatever lacks our labels is not
ours, whatever its name.
"""

import hashlib
import re

MANAGER = "packhorse"
"""The one field manager, and the value of the label that marks ownership."""
MANAGED_BY = "app.kubernetes.io/managed-by"
PREFIX = "packhorse.io/"
SERVICE = PREFIX + "service"
REVISION = PREFIX + "revision"
COMPONENT = "app.kubernetes.io/component"
REPLICA = "replica"
GATEWAY = "gateway"

MAX_BASE = 40
"""Leaves room for "-r" with 9 digits, "-gateway" or "-each", and for what makes pods unique."""
MAX_LABEL = 63
HASH_LENGTH = 8

_BASE = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
_OTHERS = re.compile(r"-r[0-9]+(?:-each|-env)?$|-gateway$|-pull$")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def base(service: str) -> str:
    """Return the name from which those of a service's objects are made: an RFC 1035 label."""
    if _BASE.fullmatch(service) and len(service) <= MAX_BASE and not _OTHERS.search(service):
        return service
    words = re.sub(r"[^a-z0-9-]+", "-", service.lower()).strip("-")
    kept = f"s-{words}"[: MAX_BASE - HASH_LENGTH - 1].rstrip("-")
    return f"{kept}-{_hash(service)}"


def gateway(service: str) -> str:
    """Return what its gateway's objects are called."""
    return f"{base(service)}-gateway"


def pull(service: str) -> str:
    """Return the name of the Secret with which its images are pulled."""
    return f"{base(service)}-pull"


def revision(service: str, number: int) -> str:
    """Return what the objects of one revision are called."""
    return f"{base(service)}-r{number}"


def each(service: str, number: int) -> str:
    """Return the name that resolves to the address of each replica."""
    return f"{revision(service, number)}-each"


def env(service: str, number: int) -> str:
    """Return the name of the Secret that holds a revision's secret variables."""
    return f"{revision(service, number)}-env"


def label(value: str) -> str:
    """Return the value, or what stands for it where only a label's 63 plain characters may."""
    if not value or (_LABEL.fullmatch(value) and len(value) <= MAX_LABEL):
        return value
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("-._")
    kept = words[: MAX_LABEL - HASH_LENGTH - 1].rstrip("-._")
    return f"{kept}-{_hash(value)}" if kept else _hash(value)


def selector(service: str) -> dict[str, str]:
    """Return the labels that all objects of a service have, and nothing else has."""
    return {MANAGED_BY: MANAGER, SERVICE: label(service)}


def replicas(service: str, number: int) -> dict[str, str]:
    """Return the labels by which a revision's replicas are selected. Never changed: Kubernetes
    refuses another selector for a Deployment that exists.
    """
    return {**selector(service), COMPONENT: REPLICA, REVISION: str(number)}


def gateways(service: str) -> dict[str, str]:
    """Return the labels by which a service's gateways are selected. Never changed."""
    return {**selector(service), COMPONENT: GATEWAY}


def query(labels: dict[str, str]) -> str:
    """Return a label selector as the API takes it."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]
