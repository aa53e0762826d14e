"""A service as a KServe InferenceService, for clusters where KServe serves.

KServe brings the way in and the scaling of its own; Packhorse's gateway (keys, limits, weights,
mirroring) has no place there. So one revision is exported: the one that has all the traffic.
"""

from cloud.hosting.errors import RefusedError
from cloud.hosting.kubernetes import gatewayparts, kinds, marks, names, pods, revisionparts
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.kubernetes.pulling import Pulling
from cloud.hosting.targets import RevisionWish, Wish
from runtime.gateway.config import WEIGHT_TOTAL

API_VERSION = "serving.kserve.io/v1beta1"
CONTAINER = "kserve-container"
"""The name by which KServe knows the model's container."""


def build(wish: Wish, pulling: Pulling) -> list[Manifest]:
    """Return the InferenceService and the Secrets that it needs.

    Raise RefusedError if no revision has all the traffic.
    """
    revision = _only(wish)
    secrets, pulls = [], pulling.secrets
    if pulling.config is not None:
        pulls = (names.pull(wish.service), *pulls)
        secrets.append(gatewayparts.pull_secret(wish, pulling.config))
    secrets += [
        part
        for part in revisionparts.build(wish, revision, ())
        if part["kind"] == kinds.SECRET.name
    ]
    metadata = marks.metadata(
        names.base(wish.service),
        wish.service,
        marks.described(revision),
        {**marks.facts(revision), "serving.kserve.io/deploymentMode": "Standard"},
    )
    service = {
        "apiVersion": API_VERSION,
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": _predictor(wish, revision, pulls)},
    }
    return [*secrets, service]


def _predictor(wish: Wish, revision: RevisionWish, pulls: tuple[str, ...]) -> Manifest:
    spec = pods.replica(wish, revision, pulls, marks.described(revision))["spec"]
    container = spec["containers"][0]
    kept = ("nodeSelector", "tolerations", "imagePullSecrets")
    return {
        "minReplicas": revision.scale.least,
        "maxReplicas": revision.scale.most or revision.scale.least,
        "scaleMetric": "cpu",
        "scaleTarget": revision.scale.cpu_percent,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": spec["terminationGracePeriodSeconds"],
        "securityContext": spec["securityContext"],
        # KServe sends to the first port, and wants just one
        "containers": [{**container, "name": CONTAINER, "ports": container["ports"][:1]}],
        "volumes": spec["volumes"],
        **{key: spec[key] for key in kept if key in spec},
    }


def _only(wish: Wish) -> RevisionWish:
    used = [entry.name for entry in wish.gateway.revisions if entry.weight == WEIGHT_TOTAL]
    for revision in wish.revisions:
        if revision.name in used or len(wish.revisions) == 1:
            return revision
    raise RefusedError(
        f"{wish.service}: an InferenceService has one revision: give one all the traffic first"
    )
