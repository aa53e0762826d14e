"""Why a pod does not answer, read from what the cluster says of it.

`needs` says what else would have to be asked (events, a log) before `of_pod` can tell. Both are
pure: what is not asked for is simply not there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cloud.hosting.kubernetes import kinds
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.targets import Reason

LOG_LINES = 20
UNREADY_S = 10.0
"""A pod that was ready may miss a probe for so long without anybody being told."""
MAX_TEXT = 600

_FIXES = {
    "ErrImagePull": "check that the image is there and that the cluster may pull it",
    "ImagePullBackOff": "check that the image is there and that the cluster may pull it",
    "InvalidImageName": "mend the image's name",
    "ErrImageNeverPull": "load the image into the node",
    "CreateContainerConfigError": "check its Secrets and that the image runs as a numeric user",
    "CrashLoopBackOff": "read its log",
    "OOMKilled": "give it more memory, or a smaller model",
    "Unschedulable": "add nodes, or ask for less",
    "FailedMount": "check that what it mounts is there",
    "Evicted": "give it what it needs, or the node more room",
}
_STUCK = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "NetworkNotReady")
_QUIET = {"ContainerCreating", "PodInitializing", ""}
_KILLED = "OOMKilled"


@dataclass(frozen=True)
class Needs:
    """What is worth asking about a pod."""

    warnings: bool = False
    log: bool = False
    previous: bool = False
    """The log of the container that ran before."""


def needs(pod: Manifest, now: float) -> Needs:
    """Return what else has to be asked to say why a pod does not answer."""
    if is_ready(pod) or is_going(pod) or _unscheduled(pod):
        return Needs()
    status = _container(pod)
    waiting = _reason(status, "waiting")
    if waiting in _QUIET and not _is_in(status, "running"):
        ended = _is_in(status, "terminated")
        return Needs(warnings=not ended, log=ended)
    if _last_end(status) is not None:
        return Needs(log=True, previous=not _is_in(status, "terminated"))
    return Needs(warnings=_was_started(status) and _unready_s(pod, now) >= UNREADY_S)


def of_pod(
    pod: Manifest, warnings: Sequence[Manifest], log: Sequence[str], now: float
) -> Reason | None:
    """Return why a pod does not answer; None: it does, or nothing is wrong yet, or it is going."""
    if is_ready(pod) or is_going(pod):
        return None
    unscheduled = _unscheduled(pod)
    if unscheduled is not None:
        return _made(pod, unscheduled.get("reason", ""), unscheduled.get("message", ""))
    if pod.get("status", {}).get("phase") == "Failed":
        said = pod["status"]
        return _ended(pod, log) or _made(pod, said.get("reason", "Failed"), said.get("message", ""))
    status = _container(pod)
    waiting = status.get("state", {}).get("waiting") or {}
    if waiting.get("reason", "") not in {*_QUIET, "CrashLoopBackOff"}:
        return _made(pod, waiting["reason"], waiting.get("message", ""))
    return _ended(pod, log) or _warned(pod, status, warnings, now)


def is_ready(pod: Manifest) -> bool:
    """Return whether a pod answers."""
    return _condition(pod, "Ready").get("status") == "True"


def is_going(pod: Manifest) -> bool:
    """Return whether a pod has been told to end."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def is_running(pod: Manifest) -> bool:
    """Return whether a pod's container runs, ready or not, and even if it is told to end."""
    return _is_in(_container(pod), "running")


def ready_s(pod: Manifest, now: float) -> float:
    """Return for how long a pod has been ready."""
    condition = _condition(pod, "Ready")
    return now - seconds(condition.get("lastTransitionTime")) if is_ready(pod) else 0.0


def seconds(text: str | None) -> float:
    """Return a time of the API in seconds since 1970; 0 for none, or one that cannot be read."""
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return 0.0


def _container(pod: Manifest) -> Manifest:
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    own = pod.get("spec", {}).get("containers") or [{}]
    name = own[0].get("name")
    # others may have added containers of theirs
    found: Manifest = next((one for one in statuses if one.get("name") == name), statuses[0])
    return found


def _condition(pod: Manifest, kind: str) -> dict[str, Any]:
    conditions = pod.get("status", {}).get("conditions") or []
    return next((one for one in conditions if one.get("type") == kind), {})


def _unscheduled(pod: Manifest) -> Manifest | None:
    condition = _condition(pod, "PodScheduled")
    return condition if condition.get("status") == "False" else None


def _is_in(status: Manifest, state: str) -> bool:
    return status.get("state", {}).get(state) is not None


def _reason(status: Manifest, state: str) -> str:
    return str((status.get("state", {}).get(state) or {}).get("reason", ""))


def _last_end(status: Manifest) -> Manifest | None:
    for state in ("state", "lastState"):
        ended: Manifest | None = (status.get(state) or {}).get("terminated")
        if ended is not None:
            return ended
    return None


def _was_started(status: Manifest) -> bool:
    return bool(status.get("started"))


def _unready_s(pod: Manifest, now: float) -> float:
    return now - seconds(_condition(pod, "Ready").get("lastTransitionTime"))


def _ended(pod: Manifest, log: Sequence[str]) -> Reason | None:
    status = _container(pod)
    ended = _last_end(status)
    if ended is None:
        return None
    code = _KILLED if ended.get("reason") == _KILLED else _reason(status, "waiting") or "exited"
    number = ended.get("exitCode")
    restarts = status.get("restartCount", 0)
    what = "was killed for using more memory than it may" if code == _KILLED else "ended"
    text = f"it {what} with exit code {number}, {restarts} restarts"
    said = ended.get("message") or ""
    return _made(pod, code, f"{text}: {said}" if said else text, number, log)


def _warned(
    pod: Manifest, status: Manifest, warnings: Sequence[Manifest], now: float
) -> Reason | None:
    newest = sorted(warnings, key=_event_at, reverse=True)
    if not _is_in(status, "running"):
        stuck = next((one for one in newest if one.get("reason") in _STUCK), None)
        return _made(pod, stuck["reason"], stuck.get("message", "")) if stuck else None
    if not _was_started(status) or _unready_s(pod, now) < UNREADY_S:
        return None
    unhealthy = next((one for one in newest if one.get("reason") == "Unhealthy"), {})
    return _made(pod, "Unhealthy", unhealthy.get("message") or "it runs, but is not ready")


def _event_at(event: Manifest) -> float:
    series = event.get("series") or {}
    times = (event.get("lastTimestamp"), event.get("eventTime"), series.get("lastObservedTime"))
    return max(seconds(time) for time in times)


def _made(
    pod: Manifest,
    code: str,
    text: str,
    exit_code: int | None = None,
    log: Sequence[str] = (),
) -> Reason:
    line = " ".join(text.split())[:MAX_TEXT] or code
    fix = _FIXES.get(code)
    return Reason(
        code or "Unknown",
        f"{line}: {fix}" if fix else line,
        kinds.name(pod),
        exit_code,
        tuple(log[-LOG_LINES:]),
    )
