"""The objects of one revision of a service."""

import base64

from cloud.hosting.kubernetes import kinds, marks, names, pods
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.targets import GRPC_PORT, HTTP_PORT, RevisionWish, Wish

DNS_PORTS = (53, 5353)
"""The second is where OpenShift's DNS pods listen: policies see it after translation."""
PROGRESS_S = pods.START_S + 60


def build(wish: Wish, revision: RevisionWish, pulls: tuple[str, ...]) -> list[Manifest]:
    """Return all objects of a revision."""
    made = [
        _policy(wish, revision),
        *_services(wish, revision),
        _deployment(wish, revision, pulls),
    ]
    if revision.secrets:
        made.append(_secret(wish, revision))
    if revision.scale.most is not None:
        made.append(_autoscaler(wish, revision))
    if revision.scale.least > 1:
        name = names.revision(wish.service, revision.number)
        metadata = _metadata(wish, revision, name)
        made.append(budget(metadata, names.replicas(wish.service, revision.number)))
    return made


def budget(metadata: Manifest, selected: dict[str, str]) -> Manifest:
    """Return a PodDisruptionBudget: one pod at a time, and sick ones do not hold up a drain."""
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selected},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return kinds.BUDGET.manifest(metadata, spec=spec)


def ports(*pairs: tuple[str, int, str]) -> list[Manifest]:
    """Return a Service's ports: name, number, and the protocol within."""
    return [
        {
            "name": name,
            "port": number,
            "protocol": "TCP",
            "targetPort": name,
            "appProtocol": protocol,
        }
        for name, number, protocol in pairs
    ]


def _metadata(wish: Wish, revision: RevisionWish, name: str) -> Manifest:
    return marks.metadata(name, wish.service, marks.described(revision), marks.facts(revision))


def _deployment(wish: Wish, revision: RevisionWish, pulls: tuple[str, ...]) -> Manifest:
    selected = names.replicas(wish.service, revision.number)
    spec: Manifest = {
        "selector": {"matchLabels": selected},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "progressDeadlineSeconds": PROGRESS_S,
        "revisionHistoryLimit": 1,
        "template": pods.replica(wish, revision, pulls, marks.described(revision)),
    }
    if revision.scale.most is None:  # else it is the autoscaler's
        spec["replicas"] = revision.scale.least
    name = names.revision(wish.service, revision.number)
    return kinds.DEPLOYMENT.manifest(_metadata(wish, revision, name), spec=spec)


def _services(wish: Wish, revision: RevisionWish) -> list[Manifest]:
    spec: Manifest = {
        "type": "ClusterIP",
        "selector": names.replicas(wish.service, revision.number),
        "ports": ports(("http", HTTP_PORT, "http"), ("grpc", GRPC_PORT, "kubernetes.io/h2c")),
    }
    any_of_them = names.revision(wish.service, revision.number)
    each = names.each(wish.service, revision.number)
    return [
        kinds.SERVICE.manifest(_metadata(wish, revision, any_of_them), spec=spec),
        kinds.SERVICE.manifest(_metadata(wish, revision, each), spec={**spec, "clusterIP": "None"}),
    ]


def _policy(wish: Wish, revision: RevisionWish) -> Manifest:
    """Only the service's own gateways get in; nothing gets out but questions to DNS.

    Kubelet's probes come from the pod's own node, which no policy shuts out.
    """
    spec = {
        "podSelector": {"matchLabels": names.replicas(wish.service, revision.number)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [{"podSelector": {"matchLabels": names.gateways(wish.service)}}],
                "ports": [{"port": port, "protocol": "TCP"} for port in (HTTP_PORT, GRPC_PORT)],
            }
        ],
        "egress": [
            {
                "ports": [
                    {"port": port, "protocol": protocol}
                    for port in DNS_PORTS
                    for protocol in ("UDP", "TCP")
                ]
            }
        ],
    }
    name = names.revision(wish.service, revision.number)
    return kinds.NETWORK_POLICY.manifest(_metadata(wish, revision, name), spec=spec)


def _autoscaler(wish: Wish, revision: RevisionWish) -> Manifest:
    name = names.revision(wish.service, revision.number)
    target = {"type": "Utilization", "averageUtilization": revision.scale.cpu_percent}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": revision.scale.least,
        "maxReplicas": revision.scale.most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    return kinds.AUTOSCALER.manifest(_metadata(wish, revision, name), spec=spec)


def _secret(wish: Wish, revision: RevisionWish) -> Manifest:
    """Immutable, as the revision is: kubelet need not watch it, and nobody can change it."""
    data = {
        name: base64.b64encode(value.encode()).decode() for name, value in revision.secrets.items()
    }
    name = names.env(wish.service, revision.number)
    return kinds.SECRET.manifest(
        _metadata(wish, revision, name), type="Opaque", immutable=True, data=data
    )
