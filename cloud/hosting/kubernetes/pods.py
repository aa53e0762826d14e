"""What runs in a replica's pod and in a gateway's, fit for the "restricted" Pod Security Standard.

How a pod goes without a failed request: it leaves the endpoints when its deletion begins, but goes
on serving for DRAIN_S, until every kube-proxy, DNS cache and gateway knows; then it gets SIGTERM,
answers what it has, and must be gone after GRACE_S in all.
"""

from cloud.hosting.kubernetes import names, quantities
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.targets import ADMIN_PORT, GRPC_PORT, HTTP_PORT, Resources, RevisionWish, Wish

DRAIN_S = 15
GRACE_S = 90
START_S = 600
"""What a model may take to load before its pod is started anew."""
PROBE_S = 2
GPU = "nvidia.com/gpu"
CONFIG_DIRECTORY = "/config"
CONFIG_FILE = "gateway.json"
CAPTURE_DIRECTORY = "/capture"
SERVER = "server"
"""Name of a replica's container."""

CPU_UNLIMITED = 0.1
"""Cores requested where none are given: enough not to be the first that is evicted."""
CPU_SCALED = 0.5
"""The same where an autoscaler reckons in percent of what is requested."""
MEMORY_UNLIMITED_MB = 128


def replica(
    wish: Wish, revision: RevisionWish, pulls: tuple[str, ...], labels: Manifest
) -> Manifest:
    """Return the pod template of a revision; `labels`: beside those by which it is selected."""
    selected = names.replicas(wish.service, revision.number)
    ready = _probe("/v2/health/ready", "http")
    container = {
        "name": SERVER,
        "image": revision.image,
        "imagePullPolicy": "IfNotPresent",
        "env": _env(wish.service, revision),
        "ports": _ports(http=HTTP_PORT, grpc=GRPC_PORT),
        "startupProbe": {**ready, "failureThreshold": START_S // PROBE_S},
        "readinessProbe": {**ready, "failureThreshold": 2},
        "livenessProbe": _alive("/v2/health/live", "http"),
        "resources": _resources(revision),
    }
    metadata: Manifest = {
        "labels": {**labels, **selected},
        "annotations": {names.SERVICE: wish.service},
    }
    spec = _spec(wish.service, pulls, selected, container)
    return {"metadata": metadata, "spec": {**spec, **_extras(revision)}}


def gateway(wish: Wish, pulls: tuple[str, ...], labels: Manifest) -> Manifest:
    """Return the pod template of a service's gateways; `labels` as for a replica."""
    selected = names.gateways(wish.service)
    container = {
        "name": names.GATEWAY,
        "image": wish.gateway_image,
        "imagePullPolicy": "IfNotPresent",
        "args": list(_GATEWAY),
        "ports": _ports(http=HTTP_PORT, grpc=GRPC_PORT, admin=ADMIN_PORT),
        "readinessProbe": {**_probe("/-/ready", "admin"), "failureThreshold": 2},
        "livenessProbe": _alive("/-/live", "admin"),
        "resources": {
            "requests": {"cpu": quantities.cpu(0.1), "memory": quantities.memory(128)},
            "limits": {"memory": quantities.memory(_gateway_memory_mb(wish))},
        },
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": True},
            {"name": "capture", "mountPath": CAPTURE_DIRECTORY},
        ],
    }
    metadata: Manifest = {
        "labels": {**labels, **selected},
        "annotations": {names.SERVICE: wish.service, **_SCRAPED},
    }
    spec = _spec(wish.service, pulls, selected, container)
    volumes = [
        {"name": "config", "secret": {"secretName": names.gateway(wish.service)}},
        {"name": "capture", "emptyDir": {"sizeLimit": quantities.memory(512)}},
    ]
    return {"metadata": metadata, "spec": {**spec, "volumes": [*spec["volumes"], *volumes]}}


def _gateway_memory_mb(wish: Wish) -> int:
    """Return what a gateway may use: all the bodies that it holds, and the largest one thrice.

    It is in pieces, in one, and in the answer.
    """
    return max(1024, 768 + 3 * (wish.gateway.max_body_bytes >> 20))


_GATEWAY = (
    *("gateway", "--config", f"{CONFIG_DIRECTORY}/{CONFIG_FILE}", "--capture", CAPTURE_DIRECTORY),
    *("--host", "0.0.0.0", "--http-port", str(HTTP_PORT), "--grpc-port", str(GRPC_PORT)),  # noqa: S104 - in a pod; it asks for keys
    *("--admin-host", "0.0.0.0", "--admin-port", str(ADMIN_PORT)),  # noqa: S104 - in no Service
)
"""After the image's own entry point, which is `python3 -m runtime`."""
_SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": str(ADMIN_PORT)}


def _spec(
    service: str, pulls: tuple[str, ...], selected: dict[str, str], container: Manifest
) -> Manifest:
    temporary = {"name": "tmp", "emptyDir": {"sizeLimit": quantities.memory(1024)}}
    container = {
        **container,
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_S}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
            *container.get("volumeMounts", []),
        ],
    }
    spec: Manifest = {
        "serviceAccountName": names.base(service),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": _spread(selected),
        "containers": [container],
        "volumes": [temporary],
    }
    if pulls:
        spec["imagePullSecrets"] = [{"name": name} for name in pulls]
    return spec


def _extras(revision: RevisionWish) -> Manifest:
    extras: Manifest = {}
    if revision.node_selector:
        extras["nodeSelector"] = dict(revision.node_selector)
    if revision.resources.gpus:
        extras["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    return extras


def _env(service: str, revision: RevisionWish) -> list[Manifest]:
    secret = names.env(service, revision.number)
    # Kubernetes makes "$" of "$$" and replaces "$(NAME)"; what people give is meant as it stands
    plain: dict[str, Manifest] = {
        name: {"name": name, "value": value.replace("$", "$$")}
        for name, value in revision.env.items()
    }
    hidden: dict[str, Manifest] = {
        name: {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        for name in revision.secrets
    }
    return [item for _, item in sorted({**plain, **hidden}.items())]


def _resources(revision: RevisionWish) -> Manifest:
    given: Resources = revision.resources
    scaled = revision.scale.most is not None
    cpu = given.cpu or (CPU_SCALED if scaled else CPU_UNLIMITED)
    requests = {
        "cpu": quantities.cpu(cpu),
        "memory": quantities.memory(given.memory_mb or MEMORY_UNLIMITED_MB),
    }
    limits: dict[str, str] = {}
    if given.cpu:
        limits["cpu"] = requests["cpu"]
    if given.memory_mb:
        limits["memory"] = requests["memory"]
    if given.gpus:
        limits[GPU] = requests[GPU] = str(given.gpus)
    return {"requests": requests, "limits": limits} if limits else {"requests": requests}


def _ports(**ports: int) -> list[Manifest]:
    return [
        {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()
    ]


def _probe(path: str, port: str) -> Manifest:
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": PROBE_S, "timeoutSeconds": 3}


def _alive(path: str, port: str) -> Manifest:
    # slow to judge: a restart costs more than waiting for a busy machine
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": 10,
        "timeoutSeconds": 10,
        "failureThreshold": 6,
    }


def _spread(labels: dict[str, str]) -> list[Manifest]:
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
