"""Which gateway pods have to be told that their configuration changed: pure.

kubelet looks whether a mounted Secret is newer once a minute, and whenever the pod itself changes.
So a change of an annotation brings a new configuration in about a second. It may come before
kubelet has heard of the Secret; then it is given again.
"""

from cloud.hosting.kubernetes import kinds, marks, troubles
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.kubernetes.snapshot import Snapshot

AGAIN_S = 5.0


def needed(seen: Snapshot, generation: int) -> list[tuple[str, str]]:
    """Return the names of the pods to be annotated, and with what."""
    found = []
    for pod in seen.gateway_pods():
        if troubles.is_going(pod) or not troubles.is_running(pod):
            continue  # one that starts mounts what is newest
        status = seen.statuses.get(kinds.name(pod))
        lags = status is None or status.generation < generation
        told, at = _last(pod)
        is_due = told != generation or (status is not None and seen.now - at >= AGAIN_S)
        if lags and is_due:
            found.append((kinds.name(pod), f"{generation}.{int(seen.now)}"))
    return found


def _last(pod: Manifest) -> tuple[int, float]:
    """Return of which generation a pod was told last, and when."""
    generation, _, second = marks.annotations(pod).get(marks.NUDGE, "").partition(".")
    if generation.isdigit() and second.isdigit():
        return int(generation), float(second)
    return -1, 0.0
