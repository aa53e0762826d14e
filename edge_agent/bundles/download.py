"""One blob, from an offer to the blob store.

    part table ──► parts, in order, each checked ──► decoded, checked whole ──► BlobStore

A connection that is cut goes on from its last byte, an expired URL is renewed, a part with wrong
bytes is fetched again. What has arrived is kept in a PartFile until the blob is stored.
"""

import collections
import contextlib
import logging
import threading
import time
import urllib.parse
from collections.abc import Callable, Generator
from pathlib import Path

from edge_agent.bundles.partfile import PartFile
from edge_agent.bundles.ranges import READ_BYTES, ExpiredError, RangeClient
from runtime import digests
from runtime.bundle import encodings, parts
from runtime.bundle.blobs import BlobStore
from runtime.bundle.parts import PartTable
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError, LinkError, PackhorseError
from runtime.messages import Offer
from runtime.retry import Backoff

log = logging.getLogger(__name__)

MOST_FAILURES = 8
"""Failures in a row, without one new byte between them."""
MOST_WRONG = 3
"""How often one part may arrive with other bytes than promised."""
POLL_S = 0.2


class FetchCancelledError(PackhorseError):
    """The caller does not want the bundle any more."""


class Patience:
    """Decides how long to go on trying; any new byte makes it fresh again."""

    def __init__(self, backoff: Backoff, cancelled: Callable[[], bool]) -> None:
        """Wait as `backoff` says, but not for one who has cancelled."""
        self._backoff, self._cancelled = backoff, cancelled
        self._failures, self._renewed = 0, False

    def stop_if_cancelled(self) -> None:
        """Raise FetchCancelledError if the caller has cancelled."""
        if self._cancelled():
            raise FetchCancelledError("the download was cancelled")

    def pause(self, seconds: float) -> None:
        """Wait; raise FetchCancelledError if the caller cancels."""
        until, never = time.monotonic() + seconds, threading.Event()
        while (left := until - time.monotonic()) > 0:
            self.stop_if_cancelled()
            never.wait(min(left, POLL_S))

    def failed(self, error: LinkError) -> None:
        """Wait before the next try, or raise the error if it was the last."""
        self._failures += 1
        if self._failures == 1:
            log.warning("download interrupted", extra={"reason": str(error)})
        if self._failures >= MOST_FAILURES:
            raise error
        self.pause(self._backoff.next())

    def expired(self, error: ExpiredError) -> None:
        """Go on at once with a new offer, but not with one new offer after the other."""
        if self._renewed:
            self.failed(error)
        self._renewed = True

    def progressed(self) -> None:
        """Begin anew: bytes came."""
        if self._failures:
            log.info("download goes on", extra={"failures": self._failures})
            self._backoff.reset()
        self._failures, self._renewed = 0, False


class Downloader:
    """Downloads one blob after the other; for one thread."""

    def __init__(
        self,
        blobs: BlobStore,
        work: Path,
        client: RangeClient,
        patience: Patience,
        *,
        base_url: str,
        bytes_per_s: int | None,
    ) -> None:
        """Keep partial downloads in `work`; stay below a rate, on average."""
        self._blobs, self._work, self._client = blobs, work, client
        self._patience = patience
        self._base_url, self._bytes_per_s = base_url, bytes_per_s
        self._wrong: collections.Counter[tuple[Digest, int]] = collections.Counter()

    def bring(
        self, offer: Offer, *, renew: Callable[[], Offer], progress: Callable[[int], None]
    ) -> None:
        """Put one blob into the store.

        `renew` gives a new offer when the URL has expired; `progress` is told how many bytes of the
        blob the parts that are right are worth.
        """
        part_file: PartFile | None = None
        with contextlib.ExitStack() as opened:
            while True:
                self._patience.stop_if_cancelled()
                try:
                    if part_file is None:
                        part_file = PartFile(self._work, self._table(offer), offer.parts_sha256)
                        opened.callback(part_file.close)
                    self._download(offer, part_file, progress)
                except ExpiredError as error:
                    self._patience.expired(error)
                    renewed = renew()
                    if renewed.parts_sha256 != offer.parts_sha256:
                        opened.close()
                        part_file = None
                    offer = renewed
                except LinkError as error:
                    if part_file is not None:
                        part_file.sync()
                    self._patience.failed(error)
                else:
                    return

    def _table(self, offer: Offer) -> PartTable:
        """Return the part table that the offer names."""
        url = urllib.parse.urljoin(self._base_url, offer.parts_url)
        data = self._client.read_whole(url, limit_bytes=parts.MAX_TABLE_BYTES)
        got = digests.of_bytes(data)
        if got != offer.parts_sha256:
            raise IntegrityError(
                f"part table of blob {offer.blob}", wanted=offer.parts_sha256, got=got
            )
        table = parts.decode(data)
        promised = (offer.blob, offer.size, offer.encoding, offer.encoded_size)
        if (table.blob, table.size, table.encoding, table.encoded_size) != promised:
            raise InvalidError("table", data[:80], "the offer says something else")
        return table

    def _download(self, offer: Offer, part_file: PartFile, progress: Callable[[int], None]) -> None:
        """Get the parts that are missing and unpack them."""
        url = urllib.parse.urljoin(self._base_url, offer.url)
        table = part_file.table
        progress(part_file.done_bytes * table.size // max(table.encoded_size, 1))
        for part in part_file.missing():
            self._part(url, part_file, part)
            progress(part_file.done_bytes * table.size // table.encoded_size)
        try:
            encodings.decode(
                table.encoding, part_file.path, self._blobs, size=table.size, sha256=table.blob
            )
        except IntegrityError:
            # The disk changed a part, which the next try finds and fetches; or the registry
            # offers what it does not have, and the next try costs no download.
            part_file.distrust()
            raise
        part_file.remove()

    def _part(self, url: str, part_file: PartFile, part: int) -> None:
        """Get one part, from where it was cut."""
        start, stop = part_file.table.span(part)
        while True:
            self._patience.stop_if_cancelled()
            got = part_file.begun(part)
            with contextlib.closing(self._chunks(url, start + got, stop)) as chunks:
                for chunk in chunks:
                    part_file.write(part, got, chunk)
                    got += len(chunk)
            if part_file.complete(part):
                return
            self._count_wrong(part_file.table, part)

    def _chunks(self, url: str, start: int, stop: int) -> Generator[bytes, None, None]:
        """Yield bytes as they arrive, but no faster than the cap allows."""
        rate = self._bytes_per_s
        most = min(READ_BYTES, rate or READ_BYTES)
        due = time.monotonic()
        with contextlib.closing(self._client.read(url, start, stop, most=most)) as chunks:
            for chunk in chunks:
                yield chunk
                self._patience.progressed()
                self._patience.stop_if_cancelled()
                if rate is not None:
                    due = max(due, time.monotonic()) + len(chunk) / rate
                    self._patience.pause(due - time.monotonic())

    def _count_wrong(self, table: PartTable, part: int) -> None:
        """Raise IntegrityError if a part came with wrong bytes too often."""
        key = (table.blob, part)
        self._wrong[key] += 1
        log.warning("part arrived with wrong bytes", extra={"blob": table.blob, "part": part})
        if self._wrong[key] >= MOST_WRONG:
            raise IntegrityError(
                f"part {part} of blob {table.blob}, fetched {MOST_WRONG} times",
                wanted=table.parts[part],
                got="other bytes",
            )
