"""What Packhorse asks of a cluster, in the API's terms, within one namespace.

All that is asked for is here, so that deploy/kubernetes/role.yaml can be held against it. Values of
Secrets are written, never read: the server is asked for metadata alone.
"""

from typing import Any
from urllib.parse import quote

from cloud.hosting.kubernetes import kinds, names, requests
from cloud.hosting.kubernetes.errors import AbsentError
from cloud.hosting.kubernetes.kinds import Kind, Manifest
from cloud.hosting.kubernetes.requests import Asking, Lines, Request
from cloud.hosting.targets import ADMIN_PORT, HTTP_PORT, REVISION_HEADER, Question

PAGE = 500
"""Objects of a list that come in one answer."""
STATUS_S = 5.0
LOG_SILENCE_S = 300.0
"""After which a log is asked for again, from where it was."""
WATCH_S = 240
"""After which the server ends a watch, so that one that died unseen is not waited for for ever."""
WATCH_SILENCE_S = WATCH_S + 60.0
MAX_LOG_BYTES = 64 << 10
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
HANDOVER = names.MANAGER + "-handover"
"""Field manager that holds a Deployment's replicas until an autoscaler does."""
_FULL = requests.JSON


class Cluster:
    """One namespace of a cluster. Methods raise TargetError, and may be called from any thread."""

    def __init__(self, asking: Asking, namespace: str) -> None:
        self._asking, self.namespace = asking, namespace

    def find(self, kind: Kind, selector: dict[str, str]) -> list[Manifest]:
        """Return all objects with these labels; none of a kind that the cluster does not know."""
        return self.listed(kind, selector)[0]

    def listed(
        self, kind: Kind, selector: dict[str, str], *, bare: bool = False
    ) -> tuple[list[Manifest], str]:
        """Return them, and the version from which a watch goes on; `bare`: metadata alone."""
        query = {"labelSelector": names.query(selector), "limit": str(PAGE)}
        accept = _metadata("List") if bare or kind.confidential else _FULL
        found: list[Manifest] = []
        while True:
            try:
                page = self._json(
                    "GET", kind.path(self.namespace), f"list {kind.plural}", query, accept=accept
                )
            except AbsentError:
                if kind.optional:
                    return [], ""
                raise
            # items of a list do not say their kind
            found += [
                {**item, "kind": kind.name, "apiVersion": kind.api_version}
                for item in page.get("items") or []
            ]
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return found, str(metadata.get("resourceVersion", ""))
            query = {**query, "continue": metadata["continue"]}

    def get(self, kind: Kind, name: str) -> Manifest | None:
        """Return the metadata of one object, whoever's it is; None: there is none."""
        try:
            found = self._json(
                "GET",
                kind.path(self.namespace, name),
                f"read {kind.name} {name}",
                accept=_metadata(),
            )
        except AbsentError:
            return None
        return {**found, "kind": kind.name, "apiVersion": kind.api_version}

    def apply(self, manifest: Manifest, *, manager: str = names.MANAGER) -> None:
        """Make an object so, by server-side apply; what others set beside it stays."""
        kind = kinds.of(manifest)
        query = {"fieldManager": manager, "force": "true"}
        self._json(
            "PATCH",
            kind.path(self.namespace, kinds.name(manifest)),
            f"apply {kinds.title(manifest)}",
            query,
            body=manifest,
            content=APPLY,
            accept=_metadata(),
        )

    def hand_over(self, deployment: Manifest) -> None:
        """Keep a Deployment's number of replicas as it is when Packhorse gives it up."""
        kept = kinds.DEPLOYMENT.manifest(
            {"name": kinds.name(deployment)}, spec={"replicas": deployment["spec"]["replicas"]}
        )
        self.apply(kept, manager=HANDOVER)

    def delete(self, manifest: Manifest) -> None:
        """Delete the object that was seen, and no other that has its name by now."""
        kind = kinds.of(manifest)
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground" if kind.foreground else "Background",
            "preconditions": {"uid": manifest["metadata"]["uid"]},
        }
        path = kind.path(self.namespace, kinds.name(manifest))
        try:
            self._json("DELETE", path, f"delete {kinds.title(manifest)}", body=options)
        except AbsentError:  # somebody was faster
            return

    def annotate_pod(self, name: str, annotations: dict[str, str]) -> None:
        """Set annotations of a pod, which makes kubelet look at its volumes at once."""
        self._json(
            "PATCH",
            kinds.POD.path(self.namespace, name),
            f"annotate pod {name}",
            {"fieldManager": names.MANAGER},
            body={"metadata": {"annotations": annotations}},
            content=MERGE,
            accept=_metadata(),
        )

    def gateway_status(self, pod: str) -> bytes:
        """Return what a gateway's pod says of itself, asked through the API server."""
        path = kinds.POD.path(self.namespace, f"{pod}:{ADMIN_PORT}", "proxy/-/status")
        doing = f"read the status of {pod}"
        return self._asking.ask(Request("GET", path, doing, self.namespace, timeout_s=STATUS_S))

    def ask_gateway(self, pod: str, question: Question, revision: str) -> tuple[int, bytes]:
        """Return what a gateway's pod answers to a POST, sent through the API server."""
        sub = "proxy" + quote(question.path)
        request = Request(
            "POST",
            kinds.POD.path(self.namespace, f"{pod}:{HTTP_PORT}", sub),
            f"ask {pod}",
            self.namespace,
            body=question.body,
            timeout_s=question.timeout_s,
            headers={**question.headers, REVISION_HEADER: revision},
        )
        return self._asking.relay(request)

    def last_log(self, pod: str, container: str, lines: int, *, previous: bool) -> list[str]:
        """Return the last lines that a container wrote; none if there are none any more."""
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(MAX_LOG_BYTES)}
        if previous:
            query["previous"] = "true"
        path = kinds.POD.path(self.namespace, pod, "log")
        text = self._asking.ask(
            Request("GET", path, f"read the log of {pod}", self.namespace, query)
        )
        return text.decode("utf-8", "replace").splitlines()[-lines:]

    def log(
        self, pod: str, container: str, *, follow: bool, tail: int | None, since: str | None
    ) -> Lines:
        """Return the lines of a container's log, each with its time before it."""
        query = {"container": container, "timestamps": "true"}
        if follow:
            query["follow"] = "true"
        if tail is not None:
            query["tailLines"] = str(tail)
        if since is not None:
            query["sinceTime"] = since
        path = kinds.POD.path(self.namespace, pod, "log")
        return self._asking.stream(
            Request(
                "GET",
                path,
                f"read the log of {pod}",
                self.namespace,
                query,
                timeout_s=LOG_SILENCE_S,
            )
        )

    def warnings(self, pod: Manifest) -> list[Manifest]:
        """Return the warnings about a pod that the cluster still has."""
        query = {"fieldSelector": f"involvedObject.uid={pod['metadata']['uid']},type=Warning"}
        doing = f"read the events of {kinds.name(pod)}"
        page = self._json("GET", kinds.EVENT.path(self.namespace), doing, query)
        return page.get("items") or []

    def watch(self, kind: Kind, selector: dict[str, str], version: str) -> Lines:
        """Return changes from a version on: metadata, a JSON object a line, with bookmarks."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": names.query(selector),
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_S),
        }
        return self._asking.stream(
            Request(
                "GET",
                kind.path(self.namespace),
                f"watch {kind.plural}",
                self.namespace,
                query,
                accept=_metadata(),
                timeout_s=WATCH_SILENCE_S,
            )
        )

    def _json(
        self,
        method: str,
        path: str,
        doing: str,
        query: dict[str, str] | None = None,
        *,
        body: Any = None,
        content: str = _FULL,
        accept: str = _FULL,
    ) -> Any:
        request = Request(method, path, doing, self.namespace, query or {}, body, content, accept)
        return requests.parsed(self._asking.ask(request), doing)


def _metadata(suffix: str = "") -> str:
    return f"application/json;as=PartialObjectMetadata{suffix};g=meta.k8s.io;v=v1,application/json"
