"""A pretended API server: kmock's HTTP server and request reader before the store of kube_store.py.

It grants exactly what deploy/kubernetes/role.yaml grants, so every test is also one of the Role. It
runs no pods: a test says how they are.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kmock
import yaml

from tests.support import kube_pods
from tests.support.kube_store import Object, Store

ROLE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "role.yaml"
NAMESPACE = "models"
USER = "system:serviceaccount:models:packhorse"
TOKEN = "t0ken"
CLUSTER_KINDS = {
    "serviceaccounts": "",
    "secrets": "",
    "services": "",
    "pods": "",
    "events": "",
    "deployments": "apps",
    "horizontalpodautoscalers": "autoscaling",
    "poddisruptionbudgets": "policy",
    "networkpolicies": "networking.k8s.io",
    "ingresses": "networking.k8s.io",
    "httproutes": "gateway.networking.k8s.io",
}
_STAMPED = {"timestamps": "true"}
Right = tuple[str, str, str]
"""Verb, group, resource."""


class StatusError(Exception):
    """An answer that is a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
        }


class UnknownError(Exception):
    """The cluster has no such kind of object: which it says in plain text."""


class Kube:
    """The pretended cluster, as a test handles it."""

    def __init__(self) -> None:
        self.store = Store()
        self.pods = kube_pods.Pods(self.store)
        self.url = ""
        self.token = TOKEN
        self.used: set[Right] = set()
        """What was asked for."""
        self.writes: list[str] = []
        """What was changed, in order: "apply deployments/churn-r1"."""
        self.failures: dict[tuple[str, str], StatusError] = {}
        """What is answered instead, by verb and resource."""
        self.granted = granted()
        self.gateway_api = True
        self.page = 500
        self.epoch = 0
        """Watches and logs that began before it rose are ended."""

    def end_streams(self) -> None:
        """End every watch and every log that is followed, as a server does after a while."""
        self.epoch += 1

    def names(self, plural: str) -> list[str]:
        """Return the names of all objects of a kind."""
        with self.store.lock:
            return sorted(name for kind, name in self.store.objects if kind == plural)

    def get(self, plural: str, name: str) -> Object:
        """Return an object as it is."""
        return self.store.objects[plural, name]

    def kubeconfig(self, directory: Path, *, token: str | None = None) -> Path:
        """Write a kubeconfig that leads here; return where it is."""
        return kubeconfig(directory, {"server": self.url}, token or self.token)

    async def answer(self, request: Any) -> Any:
        """Answer a request, in kmock's terms."""
        epoch = self.epoch
        try:
            verb = self._authorized(request)
            answer = await asyncio.to_thread(self._answered, request, verb, epoch)
        except StatusError as error:
            return kmock.Response(status=error.code, payload=error.body)
        except UnknownError:
            return kmock.Response(status=404, payload=b"404 page not found\n")
        if isinstance(answer, kmock.Response):
            return answer
        return kmock.Response(status=200, payload=answer)

    def _authorized(self, request: Any) -> str:
        if _header(request, "authorization") != f"Bearer {self.token}":
            raise StatusError(401, "Unauthorized", "Unauthorized")
        plural, group = request.resource.plural, request.resource.group
        sub = (request.subresource or "").split("/")[0]
        verb = _verb(request)
        resource = f"{plural}/{sub}" if sub else plural
        self.used.add((verb, group, resource))
        self._require(verb, group, resource)
        if (verb, resource) in self.failures:
            raise self.failures[verb, resource]
        if plural not in CLUSTER_KINDS or (plural == "httproutes" and not self.gateway_api):
            raise UnknownError
        return verb

    def _require(self, verb: str, group: str, resource: str) -> None:
        if (verb, group, resource) not in self.granted:
            name = f"{resource}.{group}" if group else resource
            raise StatusError(
                403,
                "Forbidden",
                f'{name} is forbidden: User "{USER}" cannot {verb} resource "{resource}" '
                f'in API group "{group}" in the namespace "{NAMESPACE}"',
            )

    def _answered(self, request: Any, verb: str, epoch: int) -> Any:
        plural, name = request.resource.plural, request.name
        if request.subresource == "log":
            return self._log(name, request.params, epoch)
        if verb == "create":
            status, body = self.pods.post(name, request.subresource, request)
            return kmock.Response(status=status, payload=body)
        if request.subresource:
            return self.pods.status(name, request.subresource)
        if verb == "watch":
            return self._watch(plural, request.params, epoch)
        if verb == "list":
            return self._list(plural, request)
        return self._single(plural, name, verb, request)

    def _single(self, plural: str, name: str, verb: str, request: Any) -> Any:
        with self.store.lock:
            found = self.store.objects.get((plural, name))
            if verb == "patch" and "apply-patch" in _header(request, "content-type"):
                return self._apply(plural, name, request)
            if found is None:
                raise StatusError(404, "NotFound", f'{plural} "{name}" not found')
            if verb == "patch":
                return self._patch(plural, name, request)
            if verb == "delete":
                return self._delete(plural, name, found, json.loads(request.body))
            return _shown(found, request)

    def _apply(self, plural: str, name: str, request: Any) -> Object:
        wanted = json.loads(request.body)
        found = self.store.objects.get((plural, name))
        if found is None:
            self.used.add(("create", CLUSTER_KINDS[plural], plural))
            self._require("create", CLUSTER_KINDS[plural], plural)
        elif found.get("immutable") and found.get("data") != wanted.get("data"):
            raise StatusError(422, "Invalid", "data: field is immutable when `immutable` is set")
        assert request.params["force"] == "true"
        self.store.apply(plural, name, wanted, request.params["fieldManager"])
        self.writes.append(f"apply {plural}/{name}")
        return _shown(self.store.objects[plural, name], request)

    def _patch(self, plural: str, name: str, request: Any) -> Object:
        wanted = json.loads(request.body)["metadata"]["annotations"]

        def change(found: Object) -> None:
            found["metadata"].setdefault("annotations", {}).update(wanted)

        self.store.edit(plural, name, change)
        self.writes.append(f"annotate {plural}/{name}")
        return _shown(self.store.objects[plural, name], request)

    def _delete(self, plural: str, name: str, found: Object, options: Object) -> Object:
        uid = options.get("preconditions", {}).get("uid")
        if uid not in {None, found["metadata"]["uid"]}:
            raise StatusError(409, "Conflict", f"the UID in the precondition ({uid}) is another")
        self.writes.append(f"delete {plural}/{name}")
        owned = self.pods.of(found)
        if options["propagationPolicy"] == "Foreground" and owned:
            self.store.mark_deleted(plural, name)
            for pod in owned:
                self.store.mark_deleted("pods", pod)
        else:
            self.store.delete(plural, name)
        return {"kind": "Status", "status": "Success"}

    def _list(self, plural: str, request: Any) -> Object:
        with self.store.lock:
            found = [
                value
                for (kind, _), value in sorted(self.store.objects.items())
                if kind == plural and _matches(value, request.params)
            ]
            version = str(self.store.version)
        begin = int(request.params.get("continue", "0"))
        size = min(self.page, int(request.params.get("limit", "500")))
        items = [_without_kind(_shown(value, request)) for value in found[begin : begin + size]]
        metadata = {"resourceVersion": version}
        if begin + size < len(found):
            metadata["continue"] = str(begin + size)
        return {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}

    async def _watch(self, plural: str, params: Any, epoch: int) -> AsyncIterator[bytes]:
        version = int(params["resourceVersion"])
        yield b""  # the answer's head goes out before anything happens
        while epoch == self.epoch:
            if version < self.store.oldest - 1:
                gone = StatusError(410, "Expired", "too old resource version").body
                yield _line({"type": "ERROR", "object": gone})
                return
            with self.store.lock:
                fresh = [event for event in self.store.events if event[0] > version]
                newest = self.store.version
            for at, what, kind, found in fresh:
                if kind == plural and _matches(found, params):
                    version = at
                    yield _line({"type": what, "object": _bare(found)})
            if not fresh and version < newest:
                version = newest
                mark = {"metadata": {"resourceVersion": str(version)}}
                yield _line({"type": "BOOKMARK", "object": mark})
            await asyncio.sleep(0.01)

    def _log(self, pod: str, params: Any, epoch: int) -> Any:
        if ("pods", pod) not in self.store.objects:
            raise StatusError(404, "NotFound", f'pods "{pod}" not found')
        with self.store.lock:
            lines, all_lines = self.pods.log(pod, params), self.pods.log(pod, _STAMPED)
        if lines is None:
            said = f'container "server" in pod "{pod}" is waiting to start: ContainerCreating'
            raise StatusError(400, "BadRequest", said)
        if params.get("follow") == "true":
            return self._followed(pod, lines, len(all_lines or []), epoch)
        return b"".join(lines)

    async def _followed(
        self, pod: str, lines: list[bytes], given: int, epoch: int
    ) -> AsyncIterator[bytes]:
        yield b"".join(lines)
        while epoch == self.epoch and pod in self.names("pods"):
            with self.store.lock:
                fresh = (self.pods.log(pod, _STAMPED) or [])[given:]
            given += len(fresh)
            yield b"".join(fresh)
            await asyncio.sleep(0.01)


def kubeconfig(directory: Path, cluster: Object, token: str = TOKEN) -> Path:
    """Write a kubeconfig with a context that has a namespace, and one that has none."""
    plain = {"cluster": "test", "user": "packhorse"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "packhorse", "user": {"token": token}}],
        "contexts": [
            {"name": "test", "context": {**plain, "namespace": NAMESPACE}},
            {"name": "bare", "context": plain},
        ],
        "current-context": "test",
    }
    file = directory / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


def granted() -> set[Right]:
    """Return what the Role that is shipped allows."""
    role = yaml.safe_load(ROLE.read_text())
    return {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@contextmanager
def running() -> Iterator[Kube]:
    """Have a pretended cluster listen, in a thread of its own."""
    kube, begun, ended = Kube(), threading.Event(), threading.Event()

    async def serve() -> None:
        async with kmock.RawHandler() as handler, kmock.Server(handler) as server:
            handler.fallback << kube.answer
            kube.url = str(server.url).rstrip("/")
            begun.set()
            await asyncio.to_thread(ended.wait)
            kube.end_streams()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert begun.wait(20)
    try:
        yield kube
    finally:
        ended.set()
        thread.join(20)


def _header(request: Any, name: str) -> str:
    return next((value for key, value in request.headers.items() if key.lower() == name), "")


def _verb(request: Any) -> str:
    if request.method.value == "GET":
        if request.name is not None:
            return "get"
        return "watch" if request.params.get("watch") == "true" else "list"
    return {"PATCH": "patch", "DELETE": "delete", "POST": "create"}[request.method.value]


def _matches(found: Object, params: Any) -> bool:
    labels = found["metadata"].get("labels", {})
    pairs = [pair.split("=") for pair in params.get("labelSelector", "").split(",") if pair]
    fields = dict(pair.split("=") for pair in params.get("fieldSelector", "").split(",") if pair)
    own = {"involvedObject.uid": found.get("involvedObject", {}).get("uid"), "type": None}
    own["type"] = found.get("type")
    return all(labels.get(key) == value for key, value in pairs) and all(
        own[key] == value for key, value in fields.items()
    )


def _shown(found: Object, request: Any) -> Object:
    """Return an object, or its metadata if those alone are asked for."""
    accept = _header(request, "accept")
    return _bare(found) if accept.startswith("application/json;as=PartialObjectMeta") else found


def _bare(found: Object) -> Object:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": found["metadata"],
    }


def _without_kind(found: Object) -> Object:
    return {key: value for key, value in found.items() if key not in {"kind", "apiVersion"}}


def _line(event: Object) -> bytes:
    return json.dumps(event).encode() + b"\n"
