"""The objects of a pretended cluster: server-side apply, owners of fields, versions, a history.

As far as Packhorse relies on it, this does what a real API server does: fields that a manager no
longer applies go unless another owns them; whoever changes a value becomes its owner; an apply that
changes nothing makes no new version; items of lists are merged by the keys that Kubernetes has for
them. It knows no schema: that is checked by kubernetes-validate on the manifests themselves.
"""

import copy
import itertools
import json
import threading
import uuid
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str]
"""Plural and name."""
Path = tuple[str, ...]

_LIST_KEYS = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}


class Store:
    """All objects of one namespace. The lock is held by whoever changes anything."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.objects: dict[Key, Object] = {}
        self.events: list[tuple[int, str, str, Object]] = []
        """Version, type, plural, object."""
        self.oldest = 0
        """Watches from before this version are told that it is too old."""
        self._versions = itertools.count(1)
        self._owned: dict[Key, dict[tuple[str, str], set[Path]]] = {}
        self.version = 0

    def apply(self, plural: str, name: str, wanted: Object, manager: str) -> bool:
        """Apply on the server's side; return whether the object is new."""
        with self.lock:
            key, owner = (plural, name), (manager, "Apply")
            before = self.objects.get(key)
            owned = self._owned.setdefault(key, {})
            now = copy.deepcopy(before) if before else _new(wanted)
            wishes = {path: value for path, value in leaves(wanted) if path[0] not in _IDENTITY}
            for path in owned.get(owner, set()) - set(wishes):
                if not any(path in paths for who, paths in owned.items() if who != owner):
                    _remove(now, path)
            for path, value in wishes.items():
                for who, paths in owned.items():
                    if who != owner and path in paths and _get(now, path) != value:
                        paths.discard(path)
            _merge(now, copy.deepcopy(wanted))
            owned[owner] = set(wishes)
            _default(plural, now)
            self._keep(key, before, now)
            return before is None

    def edit(self, plural: str, name: str, change: Callable[[Object], None]) -> None:
        """Change an object as somebody with kubectl would."""
        with self.lock:
            key = (plural, name)
            before = self.objects[key]
            now = copy.deepcopy(before)
            change(now)
            old, new = dict(leaves(before)), dict(leaves(now))
            touched = {path for path in old | new if old.get(path) != new.get(path)}
            for paths in self._owned.setdefault(key, {}).values():
                paths.difference_update(touched)
            self._owned[key].setdefault(("kubectl-edit", "Update"), set()).update(touched)
            self._keep(key, before, now)

    def put(self, plural: str, wanted: Object) -> None:
        """Have an object that Packhorse did not make, or replace it."""
        with self.lock:
            key = (plural, wanted["metadata"]["name"])
            before = self.objects.get(key)
            now = {**copy.deepcopy(wanted)}
            now["metadata"] = {**_new(wanted)["metadata"], **now["metadata"]}
            if before:
                now["metadata"]["uid"] = before["metadata"]["uid"]
            self._keep(key, before, now)

    def delete(self, plural: str, name: str) -> None:
        """Remove an object at once."""
        with self.lock:
            gone = self.objects.pop((plural, name))
            self._owned.pop((plural, name), None)
            self._note("DELETED", plural, gone)

    def mark_deleted(self, plural: str, name: str) -> None:
        """Have an object stay until what it owns is gone."""

        def change(found: Object) -> None:
            found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

        self.edit(plural, name, change)

    def forget_history(self) -> None:
        """Be unable to say what happened so far, as after a compaction."""
        with self.lock:
            self.oldest = self.version + 1
            self._next()
            self._next()

    def _keep(self, key: Key, before: Object | None, now: Object) -> None:
        plural, _ = key
        now["metadata"]["managedFields"] = [
            {"manager": manager, "operation": operation, "fieldsV1": _fields(paths)}
            for (manager, operation), paths in self._owned.get(key, {}).items()
            if paths
        ]
        if before is not None and _same(before, now):
            return
        if before is not None and before.get("spec") != now.get("spec"):
            now["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
        self.objects[key] = now
        self._note("MODIFIED" if before else "ADDED", plural, now)

    def _note(self, what: str, plural: str, found: Object) -> None:
        version = self._next()
        found["metadata"]["resourceVersion"] = str(version)
        self.events.append((version, what, plural, copy.deepcopy(found)))

    def _next(self) -> int:
        self.version = next(self._versions)
        return self.version


_IDENTITY = {"apiVersion", "kind"}


def leaves(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """Return the fields of an object that have an owner each."""
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, f"f:{key}"))]
    keys = _keys(path[-1][2:] if path else "", value)
    if keys is not None:
        return [leaf for item in value for leaf in leaves(item, (*path, _item(keys, item)))]
    return [(path, value)]


def _keys(field: str, value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not value:
        return None
    if field == "ports" and all(isinstance(item, dict) for item in value):
        first = value[0]
        if "containerPort" in first:
            return ("containerPort", "protocol")
        return ("port", "protocol") if "targetPort" in first else None
    return _LIST_KEYS.get(field)


def _item(keys: tuple[str, ...], item: Object) -> str:
    return "k:" + json.dumps({key: item.get(key) for key in keys}, sort_keys=True)


def _new(wanted: Object) -> Object:
    name = wanted["metadata"]["name"]
    made = "2026-01-01T00:00:00Z"
    metadata = {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": made, "generation": 1}
    return {
        "apiVersion": wanted.get("apiVersion"),
        "kind": wanted.get("kind"),
        "metadata": metadata,
    }


def _merge(now: Object, wanted: Object) -> None:
    for key, value in wanted.items():
        have = now.get(key)
        keys = _keys(key, value)
        if isinstance(value, dict) and isinstance(have, dict):
            _merge(have, value)
        elif keys is not None and isinstance(have, list):
            known = {_item(keys, item): item for item in have}
            for item in value:
                if _item(keys, item) in known:
                    _merge(known[_item(keys, item)], item)
                else:
                    have.append(item)
        elif value == [] and have is None:
            continue  # the server drops what is empty
        else:
            now[key] = value


def _get(value: Any, path: Path) -> Any:
    for step in path:
        value = _step(value, step)
        if value is None:
            return None
    return value


def _step(value: Any, step: str) -> Any:
    if step.startswith("f:"):
        return value.get(step[2:]) if isinstance(value, dict) else None
    wanted = json.loads(step[2:])
    items = value if isinstance(value, list) else []
    return next(
        (item for item in items if all(item.get(key) == wanted[key] for key in wanted)), None
    )


def _remove(value: Any, path: Path) -> None:
    parent = _get(value, path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1][2:], None)
        if not parent and len(path) > 1:
            _drop(value, path[:-1])


def _drop(value: Any, path: Path) -> None:
    parent = _get(value, path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1][2:], None)


def _default(plural: str, now: Object) -> None:
    spec = now.get("spec", {})
    if plural == "deployments":
        spec.setdefault("replicas", 1)
        spec["template"]["spec"].setdefault("restartPolicy", "Always")
        for container in spec["template"]["spec"]["containers"]:
            container.setdefault("terminationMessagePath", "/dev/termination-log")
    if plural == "services" and spec.get("clusterIP") is None:
        spec["clusterIP"] = "10.96.0.10"
        spec["clusterIPs"] = ["10.96.0.10"]


def _fields(paths: set[Path]) -> Object:
    tree: Object = {}
    for path in sorted(paths):
        place = tree
        for step in path:
            place = place.setdefault(step, {})
    return tree


def _same(before: Object, now: Object) -> bool:
    def bare(found: Object) -> Object:
        dropped = {"resourceVersion", "generation"}
        metadata = {key: value for key, value in found["metadata"].items() if key not in dropped}
        return {**found, "metadata": metadata}

    return bare(before) == bare(now)
