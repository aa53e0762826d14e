"""Which blobs are here, and since when: what uploads, registrations and garbage collection share.

A row of `blob` says that a blob's bytes are in the store. These rules keep that true while all
three run at once, and whatever is killed in between:

    upload      stores the bytes, then writes the row                        here
    asking      a row that is told to a client is touched                    here, for the grace
    register    touches the rows of its blobs in its own transaction,        here, and referred to
                and refuses if one is missing
    collect     marks rows that nothing refers to and nobody touched         deleting
                for the grace, in one transaction;
                deletes the bytes and the row in another                     gone

Bytes are deleted only inside a transaction that has seen the row as `deleting`, and transactions
that write run one after the other (see cloud.database). So whoever meets such a row within its own
transaction knows that nobody is at it, and may look in the store and decide. Each deletion is
counted: while the count stands, what was seen in the store before a transaction is there in it, and
no network call need keep other writers waiting.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from cloud import database, tables
from cloud.errors import MissingBlobsError, StoreError
from cloud.storage.blobs import Blobs
from runtime.clock import Clock
from runtime.digests import Digest

AT_ONCE = 500
"""Rows that one statement names."""
_FRESH = 0.1
"""A row is touched anew when this part of its grace has gone: asking is mostly no write."""
_ONLY = 1
"""The one row of `collection`."""

Item = TypeVar("Item")


class Presence:
    """The blobs of one registry, with their rows. Any thread may use it."""

    def __init__(self, engine: Engine, blobs: Blobs, clock: Clock, *, grace_s: float) -> None:
        """`grace_s` is how long a blob lives at least that nothing refers to."""
        self._engine, self._blobs, self._clock = engine, blobs, clock
        self._grace_s = grace_s

    def deletions(self) -> int:
        """Return how many blobs were deleted so far: what is seen after this is no older."""
        with database.reading(self._engine) as session:
            return deletions(session)

    def find(self, digest: Digest) -> int | None:
        """Return a blob's size in bytes, None if it is not here.

        If it is, it stays for nine tenths of the grace at least: there is time to register it.
        """
        with database.reading(self._engine) as session:
            row, before = session.get(tables.Blob, digest), deletions(session)
        size = self._blobs.find(digest)
        if row is None:
            return None if size is None else self._settle(digest, size, before)
        fresh = self._clock.now() - row.touched_at < self._grace_s * _FRESH
        if size is not None and fresh and not row.deleting:
            return size
        return self._settle(digest, size, before)

    def stored(self, digest: Digest, size: int, *, before: int) -> None:
        """Note that a blob's bytes are stored; `before` is `deletions` before that.

        Raises StoreError if they were deleted meanwhile: they must be sent again.
        """
        if self._settle(digest, size, before) is None:
            raise StoreError(f"store: blob {digest} was deleted while it came: send it again")

    def _settle(self, digest: Digest, seen: int | None, before: int) -> int | None:
        """Bring a row in line with the store; return the size of what is there.

        `seen` is the size that was found there after `before` deletions. If there were more since,
        it is looked for again, while nobody can delete.
        """
        with database.transaction(self._engine) as session:
            sure = deletions(session) == before
            return settle(
                session, self._blobs, digest, seen if sure else None, now=self._clock.now()
            )


def settle(
    session: Session, blobs: Blobs, digest: Digest, seen: int | None, *, now: float
) -> int | None:
    """Bring a row in line with the store, in a transaction that may write; return the size.

    `seen` is the size of what is surely in the store unless the row says `deleting`; None: not
    known, look.
    """
    row = session.get(tables.Blob, digest)
    if seen is None or (row is not None and row.deleting):
        seen = blobs.find(digest)
    if seen is None:
        if row is not None:
            session.delete(row)
        return None
    if row is None:
        session.add(tables.Blob(sha256=digest, size_bytes=seen, touched_at=now))
    else:
        row.size_bytes, row.touched_at, row.deleting = seen, now, False
        session.add(row)
    session.flush()
    return seen


def deletions(session: Session) -> int:
    """Return how many blobs were deleted so far."""
    row = session.get(tables.Collection, _ONLY)
    return 0 if row is None else row.deletions


def delete(session: Session, blobs: Blobs, digest: Digest) -> int | None:
    """Delete a blob if it is still marked; return its size in bytes. The only way that one goes."""
    row = session.get(tables.Blob, digest)
    if row is None or not row.deleting:
        return None
    counted = session.get(tables.Collection, _ONLY) or tables.Collection(id=_ONLY, deletions=0)
    counted.deletions += 1
    session.add(counted)
    session.delete(row)
    session.flush()
    blobs.delete(digest)
    return row.size_bytes


def require(session: Session, blobs: Blobs, wanted: Mapping[Digest, int], *, now: float) -> None:
    """Raise MissingBlobsError unless each of these blobs is here with that size.

    For the transaction that writes the first reference to them: until its commit they stay.
    """
    missing: list[Digest] = []
    for digests in batches(wanted):
        query = select(tables.Blob).where(col(tables.Blob.sha256).in_(digests))
        rows = {row.sha256: row for row in session.exec(query)}
        for digest in digests:
            row = rows.get(digest)
            if row is not None and not row.deleting and row.size_bytes == wanted[digest]:
                row.touched_at = now
                session.add(row)
            elif settle(session, blobs, digest, None, now=now) != wanted[digest]:
                missing.append(digest)
    if missing:
        raise MissingBlobsError(tuple(sorted(missing)))
    session.flush()


def batches(items: Iterable[Item], size: int = AT_ONCE) -> Iterator[list[Item]]:
    """Yield the items in lists of at most so many."""
    left = iter(items)
    while batch := list(itertools.islice(left, size)):
        yield batch
