"""A wish as files, for people with their own way into the cluster: no cluster is asked.

    DIR/kustomization.yaml      kubectl apply -k DIR
    DIR/deployment-churn-r3.yaml, …   a file for each object but Secrets
    DIR/secrets/…               values, one a file, 0600, kept out of Git
    DIR/.gitignore

or, as a KServe InferenceService, DIR/inferenceservice.yaml and its Secret the same way. Secrets are
made by kustomize from the files of secrets/, so no value ever stands in a manifest. All is written
beside the directory first and then moved in its place: there is the old export, or the new one.
"""

import base64
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import yaml

from cloud.hosting.errors import RefusedError
from cloud.hosting.kubernetes import checks, kinds, kserve, manifests, marks, names
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.kubernetes.pulling import Pulling
from cloud.hosting.targets import Place, Wish

Flavour = Literal["manifests", "kserve"]
MARKER = "kustomization.yaml"
SECRETS = "secrets"
MANAGER = "packhorse-export"
"""In the label that says who looks after an object."""
_NOTHING_REMEMBERED = (marks.APPLIED, marks.PARTS)
"""Annotations that are of use only where Packhorse itself looks after the objects."""


def export(
    wish: Wish,
    place: Place,
    directory: Path,
    flavour: Flavour = "manifests",
    pulling: Pulling | None = None,
) -> tuple[Path, ...]:
    """Write the files of a wish; return their paths, in order.

    The directory may be absent, empty, or an earlier export, which is replaced. Raise RefusedError
    for any other, and for what Kubernetes or KServe would not take.
    """
    if flavour == "kserve":
        checks.require_sane(wish)
        objects = kserve.build(wish, pulling or Pulling())
    else:
        objects = manifests.build(wish, pulling)
    _require_ours(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        _write(made, objects, place.namespace)
        _swap(made, directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return tuple(sorted(path for path in directory.rglob("*") if path.is_file()))


def _write(directory: Path, objects: list[Manifest], namespace: str | None) -> None:
    os.chmod(directory, 0o755)  # noqa: S103, PTH101 - manifests are for people; secrets/ is not
    plain = [one for one in objects if one["kind"] != kinds.SECRET.name]
    secrets = [one for one in objects if one["kind"] == kinds.SECRET.name]
    files = []
    for manifest in plain:
        file = f"{manifest['kind'].lower()}-{kinds.name(manifest)}.yaml"
        (directory / file).write_text(_yaml(_shown(manifest)))
        files.append(file)
    generators = [_secret(directory, secret) for secret in secrets]
    kustomization: Manifest = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": files,
    }
    if namespace is not None:
        kustomization["namespace"] = namespace
    if generators:
        kustomization["secretGenerator"] = generators
    (directory / MARKER).write_text(_yaml(kustomization))
    (directory / ".gitignore").write_text(f"{SECRETS}/\n")


def _secret(directory: Path, secret: Manifest) -> Manifest:
    """Write a Secret's values; return what makes kustomize a Secret of them."""
    folder = directory / SECRETS / kinds.name(secret)
    folder.mkdir(parents=True)
    for path in (folder.parent, folder):
        path.chmod(0o700)
    for key, value in secret["data"].items():
        with os.fdopen(os.open(folder / key, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(base64.b64decode(value))
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
        "files": [f"{key}={SECRETS}/{kinds.name(secret)}/{key}" for key in secret["data"]],
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


def _yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=100)


def _require_ours(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise RefusedError(f"export: {directory} is a file: name a directory")
    there = [path.name for path in directory.iterdir()]
    if there and MARKER not in there:
        raise RefusedError(
            f"export: {directory} has other files ({min(there)}): name an empty directory"
        )


def _swap(made: Path, directory: Path) -> None:
    if directory.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        directory.rename(old / "old")
        made.rename(directory)
        shutil.rmtree(old)
    else:
        made.rename(directory)
