"""Registration: an uploaded bundle becomes the next version of its model."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, func, select

from cloud import references, tables
from cloud.errors import MissingBlobsError
from cloud.registry import admission, aliases, catalogue, descriptions, events, lineage, models
from cloud.registry.descriptions import MAX_CARD_BYTES, Changes
from cloud.services import Change, mark
from cloud.storage.blobs import Blobs
from runtime import topics
from runtime.bundle import index as bundle_index
from runtime.bundle import policy
from runtime.bundle.index import MAX_INDEX_BYTES, Index
from runtime.digests import Digest
from runtime.errors import InvalidError


@dataclass(frozen=True)
class Upload:
    """An index whose blobs are all here."""

    index: Index
    digest: Digest
    """Of the index: the bundle's identity."""
    index_bytes: int
    """How long it is."""
    card: str = ""
    """The bundle's own model card."""

    @property
    def blobs(self) -> dict[Digest, int]:
        """Size in bytes of every blob that the bundle needs, the index among them."""
        files = {entry.sha256: entry.size for entry in self.index.files}
        return {**files, self.digest: self.index_bytes}


@dataclass(frozen=True)
class Said:
    """What is said of a version as it is registered; it wins over what the bundle says."""

    changes: Changes = field(default_factory=Changes)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    """See `cloud.registry.lineage.change`."""
    aliases: tuple[str, ...] = ()
    """Names that shall mean this version."""


def receive(
    blobs: Blobs, name: str, bundle: Digest, *, allow: Collection[str] = policy.DEFAULT
) -> Upload:
    """Return the bundle with this uploaded index, which may be registered as `name`.

    Raises InvalidError if the index is not valid or of another name, or if the bundle brings code
    that `allow` does not name; MissingBlobsError if it or a listed blob is not here with that size.
    """
    topics.device_id(name, "name")
    if not blobs.has(bundle):
        raise MissingBlobsError((bundle,))
    content = blobs.bytes_of(bundle, limit_bytes=MAX_INDEX_BYTES)
    index = bundle_index.decode(content)
    if index.name != name:
        raise InvalidError("index.name", index.name, f"register it as {index.name}, not as {name}")
    missing = [
        entry.sha256
        for entry in index.files
        if not blobs.has(entry.sha256) or blobs.size(entry.sha256) != entry.size
    ]
    if missing:
        raise MissingBlobsError(tuple(sorted(set(missing))))
    admission.require(blobs, index, allow)
    return Upload(index, bundle, len(content), _card(blobs, index))


def _card(blobs: Blobs, index: Index) -> str:
    found = [entry for entry in index.files if entry.path == index.card]
    if not found:
        return ""
    if found[0].size > MAX_CARD_BYTES:
        raise InvalidError("card", f"{found[0].size} bytes", f"use at most {MAX_CARD_BYTES}")
    try:
        return blobs.bytes_of(found[0].sha256, limit_bytes=MAX_CARD_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidError("card", index.card, "write it in UTF-8") from error


def register(
    session: Session, upload: Upload, said: Said | None = None, *, actor: str, now: float
) -> tuple[tables.Version, bool]:
    """Return the version of this bundle, and whether it is new.

    If the newest version has the same content it is returned, and what is said explicitly is a
    change to it; otherwise the number is one above the highest ever given. Raises InvalidError or
    NotFoundError for what cannot be said, or if the bundle uses versions that are not here.
    """
    said = said or Said()
    for alias in said.aliases:
        references.check_alias(alias)
    model = _model(session, upload.index.name, now=now)
    newest = models.newest(session, model.name)
    created = newest is None or newest.bundle != upload.digest
    if created or newest is None:
        version = _add(session, model, upload, said, actor=actor, now=now)
        mark(session, Change.VERSIONS)
    else:
        version = descriptions.update_version(session, newest, said.changes, actor=actor, now=now)
    if said.lineage:
        lineage.change(session, version, said.lineage, actor=actor, now=now, told=not created)
    for alias in said.aliases:
        aliases.move(session, model.name, alias, version.number, actor=actor, now=now)
    return version, created


def _model(session: Session, name: str, *, now: float) -> tables.Model:
    """Return the model, made if it is not there; one that was deleted begins anew."""
    row = session.get(tables.Model, name)
    if row is None:
        row = tables.Model(name=name, created_at=now, updated_at=now)
    elif row.deleted_at is not None:
        row.deleted_at, row.created_at = None, now
    else:
        return row
    session.add(row)
    session.flush()
    return row


def _add(
    session: Session, model: tables.Model, upload: Upload, said: Said, *, actor: str, now: float
) -> tables.Version:
    index = upload.index
    _add_bundle(session, upload, now)
    model.last_number += 1
    descriptions.touch(session, model, now=now)
    version = tables.Version(
        model=model.name,
        number=model.last_number,
        bundle=upload.digest,
        created_at=now,
        created_by=actor,
        updated_at=now,
    )
    descriptions.describe(session, version, _with_bundle(upload, said.changes))
    catalogue.enter(session, version, index, size_bytes=_size(index))
    events.add(
        session,
        at=now,
        actor=actor,
        kind="version.registered",
        subject=f"{version.model}:{version.number}",
        data={"bundle": upload.digest},
    )
    session.flush()
    return version


def _with_bundle(upload: Upload, said: Changes) -> Changes:
    """Return what the bundle says of itself, with what was said explicitly over it."""
    index = upload.index
    return Changes(
        description=index.description if said.description is None else said.description,
        tags={**index.tags, **said.tags},
        metadata={**index.metadata, **said.metadata},
        card=upload.card if said.card is None else said.card,
    )


def _size(index: Index) -> int:
    return sum(entry.size for entry in index.files)


def _uses(session: Session, index: Index) -> set[tuple[str, int]]:
    """Return the versions here that a bundle is made of; raise InvalidError if one is missing.

    The registry that it was made for may have numbered the same contents otherwise.
    """
    found = set()
    for each in index.uses:
        row = session.get(tables.Version, (each.model, each.version))
        number: int | None = None
        if row is not None and row.bundle == each.bundle:
            number = row.number
        if number is None:
            same = select(func.max(tables.Version.number)).where(
                tables.Version.model == each.model, tables.Version.bundle == each.bundle
            )
            number = session.exec(same).first()
        if number is None:
            fix = "register that version first, and build this bundle from it"
            raise InvalidError("uses", f"{each.model}:{each.version}", fix)
        found.add((each.model, number))
    return found


def _add_bundle(session: Session, upload: Upload, now: float) -> None:
    uses = _uses(session, upload.index)
    if session.get(tables.Bundle, upload.digest) is not None:
        return
    index = upload.index
    session.add(
        tables.Bundle(
            digest=upload.digest, kind=index.kind, size_bytes=_size(index), created_at=now
        )
    )
    session.flush()
    session.add_all(
        tables.BundleBlob(bundle=upload.digest, blob=blob, size_bytes=size)
        for blob, size in upload.blobs.items()
    )
    session.add_all(
        tables.BundleUse(bundle=upload.digest, model=model, version=version)
        for model, version in sorted(uses)
    )
    session.flush()
