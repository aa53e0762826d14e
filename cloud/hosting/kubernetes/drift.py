"""What somebody else changed: what Packhorse wants of an object, held against what is there.

The API server adds defaults, controllers add status, webhooks may add containers: none of that is
drift. Drift is a field that we set and that is gone or has another value. Items of a list that
have a name are compared by it, whatever their order.
"""

from collections.abc import Iterator
from typing import Any

from cloud.hosting.kubernetes import kinds, marks, names
from cloud.hosting.kubernetes.kinds import Manifest

_KEYS = ("name", "mountPath", "topologyKey", "host")
"""By which an item of a list is known, the first that it has."""
_MAX_NAMED = 20


def of(found: Manifest) -> tuple[str, ...]:
    """Return the fields of an object that are not as it was last wished for.

    As "Deployment churn-r3: spec.replicas". An object that does not say what was wished (somebody
    removed the annotation) has drifted there.
    """
    wanted = marks.applied(found)
    title = kinds.title(found)
    if wanted is None:
        return (f"{title}: metadata.annotations.{marks.APPLIED}",)
    keys = wanted.pop("keys", None)
    fields = list(differences(wanted, found))
    if keys is not None and owned_data(found) != set(keys):
        fields.append("data")
    return tuple(f"{title}: {field}" for field in fields[:_MAX_NAMED])


def is_as_wanted(wanted: Manifest, found: Manifest) -> bool:
    """Return whether an object needs no change.

    Values of Secrets are not read. A Secret that neither says what is in it nor is immutable is
    therefore never as wanted: to apply it again costs a request and changes nothing.
    """
    is_told = wanted.get("immutable") or marks.CONTENT in marks.annotations(wanted)
    if "data" in wanted and not is_told:
        return False
    text = marks.annotations(wanted).get(marks.APPLIED)
    if marks.annotations(found).get(marks.APPLIED) != text:
        return False
    return not of(found)


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Yield the paths at which `found` lacks what `wanted` has."""
    if not wanted and found is None:  # the server drops what is empty
        return
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key, value in wanted.items():
            yield from differences(value, found.get(key), f"{path}.{key}" if path else key)
    elif isinstance(wanted, list) and isinstance(found, list):
        yield from _of_lists(wanted, found, path)
    elif wanted != found:
        yield path


def owned_data(found: Manifest) -> set[str]:
    """Return the names of a Secret's values that nobody changed since Packhorse set them.

    Whoever changes a value becomes its owner in the API server's books; the value itself need not
    be read to see that.
    """
    for entry in found["metadata"].get("managedFields") or []:
        if entry.get("manager") == names.MANAGER and entry.get("operation") == "Apply":
            data = entry.get("fieldsV1", {}).get("f:data", {})
            return {key[2:] for key in data if key.startswith("f:")}
    return set()


def _of_lists(wanted: list[Any], found: list[Any], path: str) -> Iterator[str]:
    key = _key(wanted)
    if key is None:
        if len(wanted) != len(found):
            yield path
            return
        for position, (want, have) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(want, have, f"{path}[{position}]")
        return
    there = {item.get(key): item for item in found if isinstance(item, dict)}
    for item in wanted:
        yield from differences(item, there.get(item[key]), f"{path}[{item[key]}]")


def _key(items: list[Any]) -> str | None:
    for key in _KEYS:
        if all(isinstance(item, dict) and key in item for item in items):
            values = [item[key] for item in items]
            if len(set(values)) == len(values):
                return key
    return None
