"""Models, their numbered versions, and the blobs behind them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from cloud import tables
from cloud.errors import MissingBlobsError, NotFoundError
from cloud.registry import events
from cloud.storage.blobs import Blobs
from runtime import digests, topics
from runtime.bundle import index as bundle_index
from runtime.bundle.index import Index
from runtime.digests import Digest
from runtime.errors import InvalidError

LATEST = "latest"


@dataclass(frozen=True)
class Upload:
    """An index whose blobs are all here."""

    index: Index
    index_bytes: bytes
    digest: Digest
    """Of `index_bytes`: the bundle's identity."""

    @property
    def blobs(self) -> dict[Digest, int]:
        """Size in bytes of every blob that the bundle needs, the index among them."""
        files = {entry.sha256: entry.size for entry in self.index.files}
        return {**files, self.digest: len(self.index_bytes)}


@dataclass(frozen=True)
class Summary:
    """A model in a list."""

    name: str
    versions: int
    latest: tables.Version


def receive(blobs: Blobs, name: str, index_bytes: bytes) -> Upload:
    """Return a bundle that may be registered as `name`; its index becomes a blob.

    Raises InvalidError if the index is not valid or of another name, MissingBlobsError if a listed
    blob is not here with that size.
    """
    topics.device_id(name, "name")
    index = bundle_index.decode(index_bytes)
    if index.name != name:
        raise InvalidError("index.name", index.name, f"register it as {index.name}, not as {name}")
    missing = [
        entry.sha256
        for entry in index.files
        if not blobs.has(entry.sha256) or blobs.size(entry.sha256) != entry.size
    ]
    if missing:
        raise MissingBlobsError(tuple(sorted(set(missing))))
    return Upload(index, index_bytes, blobs.put_bytes(index_bytes))


def register(
    session: Session, upload: Upload, *, actor: str, now: float
) -> tuple[tables.Version, bool]:
    """Return the version of this bundle, and whether it is new.

    The newest version with the same content is returned as it is; otherwise the number is one
    above the highest.
    """
    index = upload.index
    if session.get(tables.Model, index.name) is None:
        session.add(tables.Model(name=index.name, created_at=now))
        session.flush()
    newest = _newest(session, index.name)
    if newest is not None and newest.bundle == upload.digest:
        return newest, False
    _add_bundle(session, upload, now)
    version = tables.Version(
        model=index.name,
        number=1 if newest is None else newest.number + 1,
        bundle=upload.digest,
        created_at=now,
        created_by=actor,
        description=index.description,
        tags=dict(index.tags),
    )
    session.add(version)
    events.add(
        session,
        at=now,
        actor=actor,
        kind="version.registered",
        subject=f"{version.model}:{version.number}",
        data={"bundle": upload.digest},
    )
    session.flush()
    return version, True


def _add_bundle(session: Session, upload: Upload, now: float) -> None:
    if session.get(tables.Bundle, upload.digest) is not None:
        return
    size = sum(entry.size for entry in upload.index.files)
    session.add(
        tables.Bundle(digest=upload.digest, kind=upload.index.kind, size_bytes=size, created_at=now)
    )
    session.flush()
    session.add_all(
        tables.BundleBlob(bundle=upload.digest, blob=blob, size_bytes=size)
        for blob, size in upload.blobs.items()
    )


def _newest(session: Session, name: str) -> tables.Version | None:
    query = select(tables.Version).where(tables.Version.model == name)
    return session.exec(query.order_by(col(tables.Version.number).desc()).limit(1)).first()


def version(session: Session, name: str, reference: str | int = LATEST) -> tables.Version:
    """Return a version by its number or "latest"; raise NotFoundError if there is none."""
    newest = _newest(session, name)
    if newest is None:
        raise NotFoundError("model", name, "see `packhorse models list`")
    if reference == LATEST:
        return newest
    number = _number(reference)
    found = session.get(tables.Version, (name, number)) if number <= newest.number else None
    if found is None:
        raise NotFoundError(
            "version", f"{name}:{reference}", f"the newest is {name}:{newest.number}"
        )
    return found


def _number(reference: str | int) -> int:
    text = str(reference)
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise InvalidError("version", reference, f"give a number from 1 on, or {LATEST!r}")
    return int(text)


def versions(session: Session, name: str, *, after: int, limit: int) -> Sequence[tables.Version]:
    """Return up to `limit` versions with numbers above `after`, oldest first."""
    version(session, name)
    query = select(tables.Version).where(
        tables.Version.model == name, col(tables.Version.number) > after
    )
    return session.exec(query.order_by(col(tables.Version.number)).limit(limit)).all()


def page(session: Session, *, after: str, limit: int) -> list[Summary]:
    """Return up to `limit` models by name, from behind `after` on."""
    counts = (
        select(tables.Version.model, func.count(), func.max(tables.Version.number))
        .where(col(tables.Version.model) > after)
        .group_by(tables.Version.model)
        .order_by(col(tables.Version.model))
        .limit(limit)
    )
    return [
        Summary(name, count, version(session, name, newest))
        for name, count, newest in session.exec(counts).all()
    ]


def summary(session: Session, name: str) -> Summary:
    """Return one model; raise NotFoundError if there is none."""
    newest = version(session, name)
    count = session.exec(
        select(func.count()).select_from(tables.Version).where(tables.Version.model == name)
    ).one()
    return Summary(name, count, newest)


def bundle(session: Session, digest: str) -> tables.Bundle:
    """Return a bundle's row; raise NotFoundError if it was never registered."""
    row = session.get(tables.Bundle, digests.parse(digest))
    if row is None:
        raise NotFoundError("bundle", digest)
    return row


def blobs_of(session: Session, bundles: Sequence[str]) -> dict[Digest, int]:
    """Return the sizes in bytes of all blobs that these bundles need, indexes among them."""
    query = select(tables.BundleBlob).where(col(tables.BundleBlob.bundle).in_(bundles))
    return {Digest(row.blob): row.size_bytes for row in session.exec(query)}
