"""What Packhorse writes on its objects: annotations, and how they are read again.

`APPLIED` holds the object as Packhorse wants it. Comparing that with what is there shows what
somebody else changed, with no wish at hand. A Secret's values are never in it: their names stand
for them, and who owns them tells whether somebody changed them.
"""

import json

from cloud.hosting.kubernetes import names
from cloud.hosting.kubernetes.kinds import Manifest
from cloud.hosting.targets import RevisionWish

APPLIED = names.PREFIX + "applied"
"""JSON of the object as it was last wished for, but for this annotation and a Secret's values."""
PARTS = names.PREFIX + "parts"
"""Of a Deployment: the objects that belong to it, so that a missing one is missed."""
SERVICE = names.SERVICE
"""The service's name as it is, where the label may hold a shortened one."""
IMAGE = names.PREFIX + "image"
MODEL = names.PREFIX + "model"
VERSION = names.PREFIX + "version"
BUNDLE = names.PREFIX + "bundle"
GENERATION = names.PREFIX + "generation"
"""Of the gateway's Secret: that of the configuration in it."""
TRAFFIC = names.PREFIX + "traffic"
"""Of the gateway's Secret: JSON of revision names to weights."""
CONTENT = names.PREFIX + "content"
"""Of the gateway's Secret: SHA-256 of the configuration, which holds nothing confidential."""
NUDGE = names.PREFIX + "nudge"
"""Of a gateway's pod: generation and second of the last change, which makes kubelet look again."""

BUNDLE_LABEL_LENGTH = 40


def metadata(name: str, service: str, labels: Manifest, extra: Manifest | None = None) -> Manifest:
    """Return the metadata of an object of a service; `labels`: beside those that all have."""
    return {
        "name": name,
        "labels": {
            **labels,
            "app.kubernetes.io/part-of": names.label(service),
            **names.selector(service),
        },
        "annotations": {SERVICE: service, **(extra or {})},
    }


def described(revision: RevisionWish) -> dict[str, str]:
    """Return labels by which people find what runs of a revision."""
    return {
        "app.kubernetes.io/name": names.label(revision.model),
        "app.kubernetes.io/version": str(revision.version),
        names.PREFIX + "model": names.label(revision.model),
        names.PREFIX + "version": str(revision.version),
        names.PREFIX + "bundle": revision.bundle[:BUNDLE_LABEL_LENGTH],
        names.COMPONENT: names.REPLICA,
        names.REVISION: str(revision.number),
    }


def facts(revision: RevisionWish) -> dict[str, str]:
    """Return annotations that say all of a revision, uncut."""
    return {
        IMAGE: revision.image,
        MODEL: revision.model,
        VERSION: str(revision.version),
        BUNDLE: revision.bundle,
    }


def with_applied(manifest: Manifest) -> Manifest:
    """Return the object with itself as an annotation; of a Secret, what can be read again of it."""
    shown = dict(manifest)
    if "data" in manifest:
        shown = {key: manifest[key] for key in ("apiVersion", "kind", "metadata")}
        shown["keys"] = sorted(manifest["data"])
    text = json.dumps(shown, sort_keys=True, separators=(",", ":"))
    own = manifest["metadata"]
    return {
        **manifest,
        "metadata": {**own, "annotations": {**own.get("annotations", {}), APPLIED: text}},
    }


def applied(manifest: Manifest) -> Manifest | None:
    """Return what was last wished of an object that is there; None if it does not say."""
    try:
        wanted = json.loads(annotations(manifest).get(APPLIED, "null"))
    except ValueError:
        return None
    return wanted if isinstance(wanted, dict) else None


def annotations(manifest: Manifest) -> dict[str, str]:
    """Return an object's annotations."""
    return manifest["metadata"].get("annotations") or {}


def labels(manifest: Manifest) -> dict[str, str]:
    """Return an object's labels."""
    return manifest["metadata"].get("labels") or {}


def service(manifest: Manifest) -> str | None:
    """Return the name of the service that an object belongs to; None: it is not Packhorse's."""
    if labels(manifest).get(names.MANAGED_BY) != names.MANAGER:
        return None
    return annotations(manifest).get(SERVICE) or labels(manifest).get(names.SERVICE)


def revision(manifest: Manifest) -> int | None:
    """Return the number of the revision that an object belongs to; None: to the whole service."""
    number = labels(manifest).get(names.REVISION, "")
    return int(number) if number.isascii() and number.isdigit() else None
