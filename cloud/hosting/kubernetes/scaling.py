"""How many replicas a Deployment has and should have, and why it has not: pure."""

from collections.abc import Iterable

from cloud.hosting.kubernetes import troubles
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.targets import Reason

MEASURED_S = 180.0
"""A new autoscaler has nothing to reckon with for so long, which is no trouble."""
_BAD = {"ReplicaFailure": "True", "Progressing": "False"}
_NO_QUOTA = "exceeded quota"


def counted(deployment: Manifest | None, autoscaler: Manifest | None) -> tuple[int, int]:
    """Return how many replicas are wanted, and how many of them are ready."""
    if deployment is None:
        return 0, 0
    wanted = deployment.get("spec", {}).get("replicas", 1)
    if autoscaler is not None:
        wanted = max(wanted, autoscaler.get("spec", {}).get("minReplicas", 1))
    if troubles.is_going(deployment):
        wanted = 0
    return int(wanted), int(deployment.get("status", {}).get("readyReplicas") or 0)


def reasons(deployment: Manifest | None, found: Iterable[Reason | None]) -> list[Reason]:
    """Return why replicas are missing: what is wrong with pods, else with making them."""
    pods = [reason for reason in found if reason is not None]
    if deployment is None:
        return pods
    said = []
    for condition in deployment.get("status", {}).get("conditions") or []:
        if _BAD.get(condition.get("type", "")) == condition.get("status"):
            text = " ".join(str(condition.get("message", "")).split())
            fix = ": ask for less, or have the quota raised" if _NO_QUOTA in text else ""
            said.append(Reason(str(condition.get("reason", "")), text + fix))
    if deployment.get("spec", {}).get("replicas") == 0 and not troubles.is_going(deployment):
        said.append(Reason("ScaledToZero", "somebody set its replicas to 0"))
    return pods + said


def notes(autoscaler: Manifest | None, now: float) -> list[Reason]:
    """Return why an autoscaler does nothing. Its replicas answer all the same."""
    if autoscaler is None:
        return []
    made = troubles.seconds(autoscaler["metadata"].get("creationTimestamp"))
    if now - made < MEASURED_S:
        return []
    return [
        Reason(
            str(condition.get("reason", "")),
            f"it cannot scale: {condition.get('message', '')}: is metrics-server installed?",
        )
        for condition in autoscaler.get("status", {}).get("conditions") or []
        if condition.get("type") == "ScalingActive" and condition.get("status") == "False"
    ]
