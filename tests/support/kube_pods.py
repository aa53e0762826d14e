"""The pods of a pretended cluster: made and moved by a test, as scheduler and kubelet would."""

from collections.abc import Callable
from typing import Any

from tests.support.kube_store import Object, Store

MADE = "2026-01-01T00:00:00Z"


class Pods:
    """Pods, what they wrote, and what gateways say of themselves."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.logs: dict[str, list[tuple[str, str]]] = {}
        """By pod: time and text of each line."""
        self.previous: dict[str, list[str]] = {}
        self.statuses: dict[str, Any] = {}
        """By gateway pod: what /-/status answers; without: nobody listens."""
        self.answers: Callable[[str, Any], tuple[int, Any]] = lambda _pod, _request: (
            200,
            {"outputs": []},
        )
        """What a gateway's pod answers to a POST, by pod and request."""
        self.asked: list[tuple[str, str, Any]] = []
        """Which pods were asked which path, and the requests."""

    def start(self, deployment: str, *, number: int = 0, ready: bool = True) -> str:
        """Have a pod of a Deployment run; return its name."""
        state = {"running": {"startedAt": MADE}}
        return self.be(deployment, number=number, state=state, ready=ready, started=True)

    def be(
        self,
        deployment: str,
        *,
        number: int = 0,
        ready: bool = False,
        scheduled: Object | None = None,
        **container: Any,
    ) -> str:
        """Have a pod of a Deployment be so; `container` is its container's status."""
        owner = self._store.objects["deployments", deployment]
        template = owner["spec"]["template"]
        name = f"{deployment}-5d4f-{number}"
        conditions = [
            {"type": "Ready", "status": str(ready), "lastTransitionTime": MADE},
            scheduled or {"type": "PodScheduled", "status": "True"},
        ]
        status = {"name": template["spec"]["containers"][0]["name"], "ready": ready, **container}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **template["metadata"]},
            "spec": template["spec"],
            "status": {"phase": "Running", "conditions": conditions, "containerStatuses": [status]},
        }
        if scheduled is not None:
            pod["status"]["containerStatuses"] = []
        self._store.put("pods", pod)
        self.logs.setdefault(name, [])
        self._count(deployment)
        return name

    def run_all(self, deployment: str) -> list[str]:
        """Have as many pods of a Deployment ready as it wants."""
        wanted = self._store.objects["deployments", deployment]["spec"]["replicas"]
        return [self.start(deployment, number=number) for number in range(wanted)]

    def end(self, name: str) -> None:
        """Have a pod be gone; and its Deployment, if that waits for its last pod to be deleted."""
        with self._store.lock:
            self._store.delete("pods", name)
            deployment = name.rsplit("-", 2)[0]
            owner = self._store.objects.get(("deployments", deployment))
            if owner is None:
                return
            if owner["metadata"].get("deletionTimestamp") and not self.of(owner):
                self._store.delete("deployments", deployment)
            else:
                self._count(deployment)

    def of(self, owner: Object) -> list[str]:
        """Return the names of the pods that an object selects."""
        wanted = owner.get("spec", {}).get("selector", {}).get("matchLabels")
        return [
            name
            for (plural, name), pod in list(self._store.objects.items())
            if plural == "pods" and wanted and _has(pod, wanted)
        ]

    def warn(self, pod: str, reason: str, message: str) -> None:
        """Have an event of a pod."""
        uid = self._store.objects["pods", pod]["metadata"]["uid"]
        self._store.put(
            "events",
            {
                "kind": "Event",
                "metadata": {"name": f"{pod}.{reason}"},
                "involvedObject": {"uid": uid},
                "type": "Warning",
                "reason": reason,
                "message": message,
                "lastTimestamp": MADE,
            },
        )

    def condition(self, deployment: str, kind: str, status: str, reason: str, text: str) -> None:
        """Have a Deployment say something of itself."""

        def change(found: Object) -> None:
            said = {"type": kind, "status": status, "reason": reason, "message": text}
            found.setdefault("status", {})["conditions"] = [said]

        self._store.edit("deployments", deployment, change)

    def say(self, pod: str, generation: int, **more: Any) -> None:
        """Have a gateway answer with a status."""
        service = self._store.objects["pods", pod]["metadata"]["annotations"]
        self.statuses[pod] = {
            "service": service["packhorse.io/service"],
            "generation": generation,
            "started_at": 1.0,
            **more,
        }

    def write(self, pod: str, at: str, text: str) -> None:
        """Have a pod write a line."""
        with self._store.lock:
            self.logs[pod].append((at, text))

    def status(self, name: str, sub: str) -> Any:
        """Answer by way of the API server's proxy."""
        from tests.support.kube import StatusError  # noqa: PLC0415 - it imports this module

        pod, _, port = name.partition(":")
        if port != "9090" or sub != "proxy/-/status" or pod not in self.statuses:
            raise StatusError(503, "ServiceUnavailable", "error trying to reach service: refused")
        return self.statuses[pod]

    def post(self, name: str, sub: str, request: Any) -> tuple[int, Any]:
        """Return what a gateway's pod answers to a POST by way of the API server's proxy."""
        from tests.support.kube import StatusError  # noqa: PLC0415 - it imports this module

        pod, _, port = name.partition(":")
        if port != "8080" or pod not in self.statuses:
            raise StatusError(503, "ServiceUnavailable", "error trying to reach service: refused")
        self.asked.append((pod, sub.removeprefix("proxy"), request))
        return self.answers(pod, request)

    def log(self, pod: str, params: Any) -> list[bytes] | None:
        """Return lines of a log; None: the container has not begun."""
        if params.get("previous") == "true":
            return [f"{text}\n".encode() for text in self.previous.get(pod, [])]
        statuses = self._store.objects["pods", pod]["status"]["containerStatuses"]
        if not statuses or "waiting" in statuses[0].get("state", {}):
            return None
        since = params.get("sinceTime", "")[:19]
        lines = [(at, text) for at, text in self.logs[pod] if at[:19] >= since]
        lines = lines[-int(params.get("tailLines", len(lines))) :] if lines else []
        stamped = params.get("timestamps") == "true"
        return [
            f"{at} {text}\n".encode() if stamped else f"{text}\n".encode() for at, text in lines
        ]

    def _count(self, deployment: str) -> None:
        owner = self._store.objects["deployments", deployment]
        ready = sum(_is_ready(self._store.objects["pods", name]) for name in self.of(owner))

        def change(found: Object) -> None:
            found.setdefault("status", {})["readyReplicas"] = ready

        self._store.edit("deployments", deployment, change)


def _has(pod: Object, wanted: dict[str, str]) -> bool:
    labels = pod["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in wanted.items())


def _is_ready(pod: Object) -> bool:
    return any(
        one["type"] == "Ready" and one["status"] == "True" for one in pod["status"]["conditions"]
    )
