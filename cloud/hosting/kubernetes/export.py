"""A wish as files, for people with their own way into the cluster: no cluster is asked.

    DIR/kustomization.yaml      kubectl apply -k DIR
    DIR/deployment-churn-r3.yaml, …   a file for each object but Secrets
    DIR/secrets/…               values, one a file, 0600, kept out of Git
    DIR/.gitignore

or, as a KServe InferenceService, DIR/inferenceservice.yaml and its Secret the same way. Secrets are
made by kustomize from the files of secrets/, so no value ever stands in a manifest.
"""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import yaml

from cloud.hosting.kubernetes import checks, exportfiles, kinds, kserve, manifests, marks, names
from cloud.hosting.kubernetes.exportfiles import MARKER, SECRETS
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.kubernetes.pulling import Pulling
from cloud.hosting.targets import Place, Wish

Flavour = Literal["manifests", "kserve"]
MANAGER = "packhorse-export"
"""In the label that says who looks after an object."""
_NOTHING_REMEMBERED = (marks.APPLIED, marks.PARTS)
"""Annotations that are of use only where Packhorse itself looks after the objects."""


def build(
    wish: Wish, place: Place, flavour: Flavour = "manifests", pulling: Pulling | None = None
) -> dict[str, bytes]:
    """Return the files of a wish by their names.

    Raise RefusedError for what Kubernetes or KServe would not take.
    """
    if flavour == "kserve":
        checks.require_sane(wish)
        objects = kserve.build(wish, pulling or Pulling())
    else:
        objects = manifests.build(wish, pulling)
    files: dict[str, bytes] = {}
    for manifest in objects:
        if manifest["kind"] != kinds.SECRET.name:
            name = f"{manifest['kind'].lower()}-{kinds.name(manifest)}.yaml"
            files[name] = _yaml(_shown(manifest))
    kustomization: Manifest = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(files),
    }
    if place.namespace is not None:
        kustomization["namespace"] = place.namespace
    secrets = [one for one in objects if one["kind"] == kinds.SECRET.name]
    if secrets:
        kustomization["secretGenerator"] = [_generator(secret) for secret in secrets]
    files[MARKER] = _yaml(kustomization)
    files[".gitignore"] = f"{SECRETS}/\n".encode()
    for secret in secrets:
        for key, value in secret["data"].items():
            files[_place(secret, key)] = base64.b64decode(value)
    return files


def confidential(wish: Wish, files: Iterable[str]) -> tuple[str, ...]:
    """Return the names of files that hold what nobody may see: variables, and passwords to pull.

    The gateway's configuration is none: it knows keys by their hash alone.
    """
    known = f"{SECRETS}/{names.gateway(wish.service)}/"
    return tuple(
        name for name in files if name.startswith(f"{SECRETS}/") and not name.startswith(known)
    )


def export(
    wish: Wish,
    place: Place,
    directory: Path,
    flavour: Flavour = "manifests",
    pulling: Pulling | None = None,
) -> tuple[Path, ...]:
    """Write the files of a wish; return their paths, in order."""
    exportfiles.write(directory, build(wish, place, flavour, pulling))
    return tuple(sorted(path for path in directory.rglob("*") if path.is_file()))


def _place(secret: Manifest, key: str) -> str:
    return f"{SECRETS}/{kinds.name(secret)}/{key}"


def _generator(secret: Manifest) -> Manifest:
    """Return what makes kustomize a Secret of its values' files."""
    shown = _shown(secret)["metadata"]
    options: Manifest = {
        # pods name it, and a gateway is to see changes without a restart
        "disableNameSuffixHash": True,
        "labels": shown["labels"],
        "annotations": shown["annotations"],
    }
    if secret.get("immutable"):
        options["immutable"] = True
    return {
        "name": kinds.name(secret),
        "type": secret["type"],
        "files": [f"{key}={_place(secret, key)}" for key in secret["data"]],
        "options": options,
    }


def _shown(manifest: Manifest) -> Manifest:
    """Return the object as somebody else will look after it.

    A registry that is to run a service of that name in the same place then sees somebody else's
    objects, and refuses, instead of taking them over.
    """
    own = manifest["metadata"]
    kept = {
        key: value
        for key, value in own.get("annotations", {}).items()
        if key not in _NOTHING_REMEMBERED
    }
    shown: Manifest = _given_away({**manifest, "metadata": {**own, "annotations": kept}})
    return shown


def _given_away(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: MANAGER if key == names.MANAGED_BY else _given_away(item)
            for key, item in value.items()
        }
    return [_given_away(item) for item in value] if isinstance(value, list) else value


class _Dumper(yaml.SafeDumper):
    """Writes each value where it stands, never a reference to an equal one before."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as its parent has it
        return True


def _yaml(value: Any) -> bytes:
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=100
    )
    return text.encode()
