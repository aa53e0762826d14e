"""Garbage collection: what nothing refers to is deleted, safely while pushes run.

    finish    what an earlier run, perhaps a killed one, had marked
    adopt     blobs without a row (of an earlier version, or of an upload that was killed) get one,
              and with it the whole grace
    mark      rows that no bundle refers to and that nobody touched for the grace
    finish    delete those, one transaction each
    tidy      encodings whose blob or base is gone; uploads in pieces that nobody goes on with

See cloud.storage.presence for why no registered bundle ever loses a blob.
"""

import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, not_, select
from sqlmodel.sql.expression import SelectOfScalar

from cloud import tables
from cloud.errors import ConflictError
from cloud.registry import events
from cloud.services import Services
from cloud.storage import encodings, presence
from cloud.storage.objects import Stored
from cloud.storage.presence import batches
from runtime.digests import Digest
from runtime.errors import PackhorseError

log = logging.getLogger(__name__)

EVENT = "garbage.collected"
_FIRST_RUN_S = 60.0
_AT_ONCE = 500


@dataclass(frozen=True)
class Collected:
    """What one run did, or would do."""

    adopted: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    encodings: int = 0
    encoding_bytes: int = 0
    uploads: int = 0

    @property
    def anything(self) -> bool:
        """Say whether something was deleted."""
        return bool(self.blobs or self.encodings or self.uploads)


class Collector:
    """Collects the garbage of one registry; one run at a time."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._pause = threading.Event()

    def every(self, interval_s: float, stopping: threading.Event) -> None:
        """Collect again and again until `stopping`; trouble is logged and tried again later."""
        wait_s = min(interval_s, _FIRST_RUN_S)
        while not stopping.wait(wait_s):
            try:
                self.run(actor=events.REGISTRY, stopping=stopping)
            except (PackhorseError, OperationalError, OSError) as error:
                log.warning("garbage not collected", extra={"why": str(error)})
            wait_s = interval_s

    def run(
        self, *, actor: str, dry_run: bool = False, stopping: threading.Event | None = None
    ) -> Collected:
        """Collect; return what was deleted. With `dry_run`, only what would be.

        Raises ConflictError if a run is under way, StoreError if the store does not answer: what
        was done until then stays done, and the next run goes on.
        """
        if not self._services.collecting.acquire(blocking=False):
            raise ConflictError("gc: a collection is under way: try again when it is done")
        try:
            if dry_run:
                return self._foresee()
            done = self._collect(stopping or threading.Event())
        finally:
            self._services.collecting.release()
        if done.anything:
            with self._services.transaction() as session:
                now = self._services.clock.now()
                facts = asdict(done)
                events.add(session, at=now, actor=actor, kind=EVENT, subject="registry", data=facts)
            log.info("garbage collected", extra=facts)
        return done

    def _collect(self, stopping: threading.Event) -> Collected:
        earlier = self._finish(stopping)
        adopted = self._adopt()
        while self._mark() and not stopping.is_set():
            pass
        later = self._finish(stopping)
        done = Collected(
            adopted=adopted,
            blobs=earlier.blobs + later.blobs,
            blob_bytes=earlier.blob_bytes + later.blob_bytes,
            uploads=self._services.uploads.sweep(),
        )
        return self._tidy(done, stopping)

    def _finish(self, stopping: threading.Event) -> Collected:
        """Delete the blobs whose rows are marked."""
        with self._services.reading() as session:
            marked = session.exec(select(tables.Blob.sha256).where(tables.Blob.deleting)).all()
        done = Collected()
        for digest in marked:
            if stopping.is_set():
                break
            began = time.monotonic()
            size = self._delete(Digest(digest))
            if size is not None:
                done = replace(done, blobs=done.blobs + 1, blob_bytes=done.blob_bytes + size)
            # Other writers waited for this: let them have as much time.
            self._pause.wait(min(1.0, time.monotonic() - began))
        return done

    def _delete(self, digest: Digest) -> int | None:
        """Delete a blob that is still marked; return its size."""
        with self._services.transaction() as session:
            return presence.delete(session, self._services.blobs, digest)

    def _adopt(self) -> int:
        adopted = 0
        for batch in batches(self._services.blobs.all()):
            with self._services.reading() as session:
                if not _unknown(session, batch):
                    continue
            with self._services.transaction() as session:
                for digest, size in (unknown := _unknown(session, batch)):
                    now = self._services.clock.now()
                    session.add(tables.Blob(sha256=digest, size_bytes=size, touched_at=now))
                adopted += len(unknown)
        return adopted

    def _mark(self) -> int:
        """Mark some of what nothing refers to; return how many."""
        with self._services.transaction() as session:
            rows = session.exec(_unreferred(self._before()).limit(_AT_ONCE)).all()
            for row in rows:
                row.deleting = True
                session.add(row)
        return len(rows)

    def _tidy(self, done: Collected, stopping: threading.Event) -> Collected:
        """Delete the encodings of blobs that are gone."""
        for stored in self._orphans(frozenset()):
            if stopping.is_set():
                break
            self._services.store.delete(stored.key)
            done = replace(
                done,
                encodings=done.encodings + 1,
                encoding_bytes=done.encoding_bytes + stored.size,
            )
        return done

    def _orphans(self, doomed: frozenset[str]) -> Iterator[Stored]:
        """Yield the encodings of blobs that have no row, or are in `doomed`."""
        for batch in batches(self._services.store.list(encodings.ROOT)):
            named = {stored.key: _digests_in(stored.key) for stored in batch}
            asked = {digest for digests in named.values() for digest in digests}
            with self._services.reading() as session:
                here = {found for some in batches(asked) for found in _known(session, some)}
            here -= doomed
            # Part tables first: without them, what is left of an encoding is not used.
            for stored in sorted(batch, key=lambda each: each.key, reverse=True):
                if not here.issuperset(named[stored.key]):
                    yield stored

    def _foresee(self) -> Collected:
        with self._services.reading() as session:
            marked = session.exec(select(tables.Blob).where(tables.Blob.deleting)).all()
            doomed = [*marked, *session.exec(_unreferred(self._before())).all()]
        orphans = list(self._orphans(frozenset(row.sha256 for row in doomed)))
        return Collected(
            blobs=len(doomed),
            blob_bytes=sum(row.size_bytes for row in doomed),
            encodings=len(orphans),
            encoding_bytes=sum(stored.size for stored in orphans),
            uploads=self._services.uploads.stale(),
        )

    def _before(self) -> float:
        return self._services.clock.now() - self._services.settings.gc_grace_s


def _unreferred(before: float) -> SelectOfScalar[tables.Blob]:
    """Select the rows that nothing refers to and nobody touched since then."""
    referred = select(tables.BundleBlob.blob).where(tables.BundleBlob.blob == tables.Blob.sha256)
    return select(tables.Blob).where(
        not_(col(tables.Blob.deleting)),
        col(tables.Blob.touched_at) < before,
        not_(referred.exists()),
    )


def _unknown(session: Session, batch: Sequence[tuple[Digest, int]]) -> list[tuple[Digest, int]]:
    known = _rows(session, [digest for digest, _size in batch])
    return [(digest, size) for digest, size in batch if digest not in known]


def _rows(session: Session, digests: Sequence[str]) -> set[str]:
    query = select(tables.Blob.sha256).where(col(tables.Blob.sha256).in_(digests))
    return set(session.exec(query).all())


def _known(session: Session, digests: Sequence[str]) -> set[str]:
    """Return those that have a row which is not going."""
    query = select(tables.Blob.sha256).where(
        col(tables.Blob.sha256).in_(digests), not_(col(tables.Blob.deleting))
    )
    return set(session.exec(query).all())


def _digests_in(key: str) -> tuple[str, ...]:
    """Return the blobs that an encoding needs: its own, and its base."""
    return tuple(re.findall("[0-9a-f]{64}", key.rpartition("/")[2]))
