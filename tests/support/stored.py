"""Bundles of blobs without a model behind them: what garbage collection has to tell apart."""

import threading
from collections.abc import Callable, Mapping

from sqlmodel import col, delete, select

from cloud import tables
from cloud.services import Services
from cloud.storage import presence
from runtime import digests
from runtime.digests import Digest

GRACE_S = 1000.0


class Meanwhile(threading.Event):
    """Never set. A collection asks it between two steps whether to stop: then something happens."""

    def __init__(self, happen: Callable[[int], None]) -> None:
        """`happen` is told how often it was asked before."""
        super().__init__()
        self._happen = happen
        self.seen = 0

    def is_set(self) -> bool:
        """Let it happen; go on."""
        self.seen += 1
        self._happen(self.seen - 1)
        return False


def content_of(number: int) -> bytes:
    """Return the bytes of a blob."""
    return f"blob {number}".encode() * (number + 1)


def digest_of(number: int) -> Digest:
    """Return the digest of a blob."""
    return digests.of_bytes(content_of(number))


def upload(services: Services, number: int) -> None:
    """Do what the registry does when a client sends a blob."""
    content, before = content_of(number), services.presence.deletions()
    digest = digests.of_bytes(content)
    if services.presence.find(digest) is None:
        services.blobs.put_bytes(content)
        services.presence.stored(digest, len(content), before=before)


def register(services: Services, bundle: str, numbers: frozenset[int]) -> None:
    """Refer to blobs, as a registration does; raise MissingBlobsError if one is not here."""
    wanted: Mapping[Digest, int] = {digest_of(each): len(content_of(each)) for each in numbers}
    now = services.clock.now()
    with services.transaction() as session:
        presence.require(session, services.blobs, wanted, now=now)
        session.add(tables.Bundle(digest=bundle, kind="onnx", size_bytes=1, created_at=now))
        session.flush()
        session.add_all(
            tables.BundleBlob(bundle=bundle, blob=digest, size_bytes=size)
            for digest, size in wanted.items()
        )


def forget(services: Services, bundle: str) -> None:
    """Delete a bundle's rows, as the deletion of its last version does."""
    with services.transaction() as session:
        for table, column in (
            (tables.BundleBlob, tables.BundleBlob.bundle),
            (tables.Bundle, tables.Bundle.digest),
        ):
            session.exec(delete(table).where(col(column) == bundle))


def lost(services: Services) -> list[str]:
    """Return the blobs that a bundle refers to and that are not here as they were sent."""
    with services.reading() as session:
        referred = session.exec(select(tables.BundleBlob)).all()
    return [
        row.blob
        for row in referred
        if services.blobs.find(Digest(row.blob)) != row.size_bytes
        or digests.of_bytes(b"".join(services.blobs.read(Digest(row.blob)))) != row.blob
    ]


def stray(services: Services) -> list[str]:
    """Return the rows that say of a blob that it is here when it is not."""
    with services.reading() as session:
        rows = session.exec(select(tables.Blob)).all()
    return [
        row.sha256
        for row in rows
        if not row.deleting and services.blobs.find(Digest(row.sha256)) != row.size_bytes
    ]
