"""One blob, from an offer to the blob store.

    part table ──► parts, in order, each checked ──► decoded, checked whole ──► BlobStore

A connection that is cut goes on from its last byte, an expired URL is renewed, a part with wrong
bytes is fetched again. What has arrived is kept in a PartFile until the blob is stored.
"""

import collections
import contextlib
import logging
import time
import urllib.parse
from collections.abc import Callable, Generator
from pathlib import Path

from edge_agent.bundles.doubts import Doubts
from edge_agent.bundles.partfile import PartFile
from edge_agent.bundles.patience import Patience
from edge_agent.bundles.ranges import READ_BYTES, ExpiredError, RangeClient
from edge_agent.bundles.unpack import IN_PROCESS, unpack
from runtime import digests
from runtime.bundle import parts
from runtime.bundle.blobs import BlobStore
from runtime.bundle.parts import PartTable
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError, LinkError
from runtime.messages import Offer

log = logging.getLogger(__name__)

MOST_WRONG = 3
"""How often one part may arrive with other bytes than promised."""


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
        memory_bytes: int = 0,
        received: Callable[[int], None] = lambda _bytes: None,
    ) -> None:
        """Keep partial downloads in `work`; stay below a rate, on average.

        `received` is told of all bytes that came, right or wrong.
        """
        self._blobs, self._work, self._client = blobs, work, client
        self._patience, self._doubts = patience, Doubts(work)
        self._base_url, self._bytes_per_s = base_url, bytes_per_s
        self._memory_bytes, self._received = memory_bytes, received
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
                        table = self._table(offer)
                        part_file = PartFile(self._work, table, offer.parts_sha256, offer.base)
                        opened.callback(part_file.close)
                    self._download(offer, part_file, progress)
                except ExpiredError as error:
                    self._patience.expired(error)
                    renewed = renew()
                    if (renewed.parts_sha256, renewed.base) != (offer.parts_sha256, offer.base):
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
        self._received(len(data))
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
            self._unpack(table, part_file, offer.base)
        except IntegrityError:
            # The disk changed a part, which the next try finds and fetches; or the registry
            # offers what it does not have, and the next try costs no download.
            part_file.distrust()
            raise
        part_file.remove()

    def _unpack(self, table: PartTable, part_file: PartFile, base: Digest | None) -> None:
        is_risky = table.encoding not in IN_PROCESS
        with self._doubts.trying(table.blob) if is_risky else contextlib.nullcontext():
            unpack(
                table,
                part_file.path,
                self._blobs,
                base=base,
                memory_bytes=self._memory_bytes,
                check=self._patience.stop_if_cancelled,
            )

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
                self._received(len(chunk))
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
