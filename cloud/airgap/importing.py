"""Versions out of a file (runtime.bundle.archive) into a registry.

Each becomes the next version of its model; one whose content is there already stays what it is.
What was said of it comes with it; where it comes from is kept in its metadata. Aliases are not
carried: which version is the champion is each registry's own affair.
"""

import hashlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud import shapes
from cloud.cli import progress
from cloud.client import Client
from cloud.errors import AbsentError
from runtime import digests, files
from runtime.bundle.archive import Archive, Entry
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

REGISTRY, VERSION = "origin_registry", "origin_version"
CREATED_AT, CREATED_BY = "origin_created_at", "origin_created_by"
PARENT = "origin_parent"
_LINEAGE = ("run", "code", "data", "trained_by", "trained_at", "extra")


@dataclass(frozen=True)
class Imported:
    """What became of one version."""

    origin: str
    """NAME:NUMBER in the file."""
    model: str
    version: int
    """Its number here."""
    created: bool
    """False: this content was here already."""


def load(registry: Client, file: Path) -> list[Imported]:
    """Register all versions of a file, in its order.

    Raises InvalidError or IntegrityError for a file that is none or was damaged; whatever was
    registered before then stays, and the next try goes on.
    """
    try:
        stream = file.open("rb")
    except OSError as error:
        raise InvalidError("file", str(file), f"{error.strerror}") from error
    with stream:
        archive = Archive(stream)
        done: list[Imported] = []
        for entry in archive.manifest.versions:
            done.append(_import(registry, archive, entry, done))
    return done


def _import(registry: Client, archive: Archive, entry: Entry, before: list[Imported]) -> Imported:
    origin = f"{entry.model}:{entry.version}"
    present = _present(registry, entry)
    if present is not None:
        return Imported(origin, entry.model, present, created=False)
    _upload(registry, archive, entry.bundle)
    _, index_bytes = archive.indexes[entry.bundle]
    said = _said(archive.manifest.origin, entry, before)
    made = registry.register(entry.model, index_bytes, said)
    _take_back(registry, made, said)
    return Imported(origin, made.model, made.version, made.created)


def _present(registry: Client, entry: Entry) -> int | None:
    """Return the newest version here with this content."""
    try:
        numbers = [
            each.version for each in registry.versions(entry.model) if each.bundle == entry.bundle
        ]
    except AbsentError:
        return None
    return max(numbers, default=None)


def _upload(registry: Client, archive: Archive, bundle: Digest) -> None:
    missing = [digest for digest in archive.needs(bundle) if not registry.has_blob(digest)]
    with tempfile.TemporaryDirectory(prefix="packhorse-import-") as name:
        scratch = Path(name)
        files.require_space(scratch, sum(archive.size(digest) for digest in missing))
        unpacked = {digest: scratch / digest for digest in missing}
        for digest, path in unpacked.items():
            _unpack(archive, digest, path)
        total = sum(archive.size(digest) for digest in missing)
        with progress.transfer("importing", total) as advance:
            registry.put_blobs(unpacked, advance)


def _unpack(archive: Archive, digest: Digest, target: Path) -> None:
    """Write a blob to a file; raise IntegrityError if its bytes are others."""
    sha256 = hashlib.sha256()
    with archive.open(digest) as source, target.open("xb") as copy:
        for chunk in digests.chunks(source):
            sha256.update(chunk)
            copy.write(chunk)
    if (got := sha256.hexdigest()) != digest:
        raise IntegrityError(f"blob {digest} in the file", wanted=digest, got=got)


def _said(registry: str, entry: Entry, before: list[Imported]) -> shapes.Statement:
    origin = {
        REGISTRY: registry,
        VERSION: f"{entry.model}:{entry.version}",
        CREATED_AT: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.created_at)),
        CREATED_BY: entry.created_by,
    }
    parent = str((entry.lineage or {}).get("parent") or "")
    here = {each.origin: f"{each.model}:{each.version}" for each in before}
    if parent and parent not in here:
        origin[PARENT] = parent
    given: dict[str, Any] = {
        "description": entry.description,
        "tags": entry.tags,
        # One that was imported before keeps the origin that it had there.
        "metadata": entry.metadata if REGISTRY in entry.metadata else {**entry.metadata, **origin},
        "lineage": _lineage(entry.lineage, here.get(parent)),
    }
    if entry.card:
        given["card"] = entry.card
    return shapes.Statement.model_validate(
        {name: value for name, value in given.items() if value is not None}
    )


def _lineage(told: Mapping[str, Any] | None, parent: str | None) -> dict[str, Any] | None:
    if told is None:
        return None
    found = {name: told[name] for name in _LINEAGE if told.get(name)}
    if parent is not None:
        found["parent"] = parent
    return found or None


def _take_back(registry: Client, made: shapes.Registered, said: shapes.Statement) -> None:
    """Remove what the bundle says of itself and nobody said where it comes from."""
    tags = dict.fromkeys(made.tags.keys() - said.tags.keys())
    metadata = dict.fromkeys(made.metadata.keys() - said.metadata.keys())
    if tags or metadata:
        changes = shapes.VersionChanges.model_validate({"tags": tags, "metadata": metadata})
        registry.update_version(made.model, str(made.version), changes)
