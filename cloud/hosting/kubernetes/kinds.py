"""Which kinds of objects Packhorse makes, reads and watches, and where the API has them.

MADE is in the order in which they are made; they are taken away in the opposite one. What is not
in this table is never asked for, so the Role in deploy/kubernetes/ can list it all.
"""

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
"""An object as the API has it: apiVersion, kind, metadata, and the rest."""


@dataclass(frozen=True)
class Kind:
    """A kind of object, and its place in the API."""

    name: str
    group: str
    version: str
    plural: str
    optional: bool = False
    """Not every cluster knows it."""
    foreground: bool = False
    """When deleted, it stays until what it owns is gone, so that it can be seen going."""
    confidential: bool = False
    """Only its metadata are ever read."""

    @property
    def api_version(self) -> str:
        """As in a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str | None = None, sub: str = "") -> str:
        """Return the path of all in a namespace, of one, or of one's subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        where = f"{root}/namespaces/{namespace}/{self.plural}"
        return where + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")

    def manifest(self, metadata: Manifest, **rest: Any) -> Manifest:
        """Return an object of this kind."""
        return {"apiVersion": self.api_version, "kind": self.name, "metadata": metadata, **rest}


SERVICE_ACCOUNT = Kind("ServiceAccount", "", "v1", "serviceaccounts")
SECRET = Kind("Secret", "", "v1", "secrets", confidential=True)
NETWORK_POLICY = Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies")
SERVICE = Kind("Service", "", "v1", "services")
DEPLOYMENT = Kind("Deployment", "apps", "v1", "deployments", foreground=True)
AUTOSCALER = Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
BUDGET = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
HTTP_ROUTE = Kind("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes", optional=True)
INGRESS = Kind("Ingress", "networking.k8s.io", "v1", "ingresses")

MADE = (
    SERVICE_ACCOUNT,
    SECRET,
    NETWORK_POLICY,
    SERVICE,
    DEPLOYMENT,
    AUTOSCALER,
    BUDGET,
    HTTP_ROUTE,
    INGRESS,
)

POD = Kind("Pod", "", "v1", "pods")
EVENT = Kind("Event", "", "v1", "events")

WATCHED = (DEPLOYMENT, POD, SERVICE, SECRET)
"""Those of which a change is told at once; a change of others is seen when next looked at."""

BY_NAME = {kind.name: kind for kind in MADE}


def of(manifest: Manifest) -> Kind:
    """Return the kind of an object that Packhorse makes."""
    return BY_NAME[manifest["kind"]]


def name(manifest: Manifest) -> str:
    """Return an object's name."""
    return str(manifest["metadata"]["name"])


def title(manifest: Manifest) -> str:
    """Return kind and name, as people are told of an object."""
    return f"{manifest['kind']} {name(manifest)}"
