"""The objects that a service has once: its gateway, its way in, its identity."""

import base64
import hashlib
import json

from cloud.hosting.kubernetes import kinds, marks, names, pods, revisionparts, routes
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.targets import ADMIN_PORT, GRPC_PORT, HTTP_PORT, Wish
from runtime.gateway import config
from runtime.gateway.config import Config

SERVICE_PORT = 80
"""Of the service's HTTP, inside the cluster; gRPC has GRPC_PORT."""
PROGRESS_S = 300

_LABELS = {"app.kubernetes.io/name": "packhorse-gateway", names.COMPONENT: names.GATEWAY}


def build(wish: Wish, settings: Config, pulls: tuple[str, ...]) -> list[Manifest]:
    """Return the gateway's objects; `settings` with backends."""
    made = [
        _secret(wish, settings),
        _policy(wish),
        _service(wish),
        _deployment(wish, pulls),
    ]
    if wish.gateway_replicas > 1:
        metadata = _metadata(wish, names.gateway(wish.service))
        made.append(revisionparts.budget(metadata, names.gateways(wish.service)))
    if wish.route is not None:
        metadata = _metadata(wish, names.base(wish.service))
        made.append(routes.build(wish.route, metadata, names.base(wish.service), SERVICE_PORT))
    return made


def account(wish: Wish) -> Manifest:
    """Return the identity of a service's pods, which can do nothing and has no token."""
    metadata = _metadata(wish, names.base(wish.service))
    return kinds.SERVICE_ACCOUNT.manifest(metadata, automountServiceAccountToken=False)


def pull_secret(wish: Wish, docker_config: str) -> Manifest:
    """Return the Secret with which images are pulled."""
    encoded = base64.b64encode(docker_config.encode()).decode()
    return kinds.SECRET.manifest(
        _metadata(wish, names.pull(wish.service)),
        type="kubernetes.io/dockerconfigjson",
        data={".dockerconfigjson": encoded},
    )


def _metadata(wish: Wish, name: str, extra: Manifest | None = None) -> Manifest:
    return marks.metadata(name, wish.service, _LABELS, extra)


def _secret(wish: Wish, settings: Config) -> Manifest:
    content = config.encode(settings)
    weights = {revision.name: revision.weight for revision in settings.revisions}
    said = {
        marks.GENERATION: str(settings.generation),
        marks.TRAFFIC: json.dumps(weights, sort_keys=True),
        marks.CONTENT: hashlib.sha256(content).hexdigest(),
    }
    return kinds.SECRET.manifest(
        _metadata(wish, names.gateway(wish.service), said),
        type="Opaque",
        data={pods.CONFIG_FILE: base64.b64encode(content).decode()},
    )


def _deployment(wish: Wish, pulls: tuple[str, ...]) -> Manifest:
    spec = {
        "replicas": wish.gateway_replicas,
        "selector": {"matchLabels": names.gateways(wish.service)},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "progressDeadlineSeconds": PROGRESS_S,
        "revisionHistoryLimit": 1,
        "template": pods.gateway(wish, pulls, _LABELS),
    }
    extra = {marks.IMAGE: wish.gateway_image}
    return kinds.DEPLOYMENT.manifest(_metadata(wish, names.gateway(wish.service), extra), spec=spec)


def _service(wish: Wish) -> Manifest:
    spec = {
        "type": "ClusterIP",
        "selector": names.gateways(wish.service),
        "ports": revisionparts.ports(
            ("http", SERVICE_PORT, "http"), ("grpc", GRPC_PORT, "kubernetes.io/h2c")
        ),
    }
    return kinds.SERVICE.manifest(_metadata(wish, names.base(wish.service)), spec=spec)


def _policy(wish: Wish) -> Manifest:
    """Whoever reaches the pod may ask: the gateway knows its clients by their keys.

    The admin port is in no Service. It must be reachable all the same, since the API server, whose
    address a policy cannot know, asks there for the status, and so does Prometheus.
    """
    open_ports = (HTTP_PORT, GRPC_PORT, ADMIN_PORT)
    spec = {
        "podSelector": {"matchLabels": names.gateways(wish.service)},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"port": port, "protocol": "TCP"} for port in open_ports]}],
    }
    return kinds.NETWORK_POLICY.manifest(_metadata(wish, names.gateway(wish.service)), spec=spec)
