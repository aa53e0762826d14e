"""One blob, from an offer to the blob store.

    part table ──► parts, in order, each checked ──► decoded, checked whole ──► BlobStore

A connection that is cut goes on from its last byte, an expired URL is renewed, a part with wrong
bytes is fetched again. What has arrived is kept in a PartFile until the blob is stored.
"""

import collections
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from edge_agent.bundles.doubts import Doubts
from edge_agent.bundles.partfile import PartFile
from edge_agent.bundles.ranges import ExpiredError
from edge_agent.bundles.roads import Road, Roads
from edge_agent.bundles.unpack import IN_PROCESS, unpack
from edge_agent.bundles.valve import Valve
from edge_agent.lan.peers import Peers
from edge_agent.lan.shelf import Shelf
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
        https: Road,
        roads: Roads,
        valve: Valve,
        *,
        memory_bytes: int = 0,
        neighbours: Peers | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        """Keep partial downloads in `work`; `roads` says when not to take `https`.

        Parts that `neighbours` give take neither; they get theirs from `shelf`.
        """
        self._neighbours, self._shelf = neighbours, shelf
        self._blobs, self._work, self._https, self._roads = blobs, work, https, roads
        self._valve, self._patience = valve, valve.patience
        self._doubts, self._memory_bytes = Doubts(work), memory_bytes
        self._road = https
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
                self._road = self._roads.choose(self._https)
                try:
                    if part_file is None:
                        table = self._table(offer)
                        part_file = PartFile(self._work, table, offer.parts_sha256, offer.base)
                        opened.callback(part_file.close)
                        if self._shelf is not None:
                            opened.enter_context(self._shelf.open(offer.parts_sha256, part_file))
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
                    self._roads.failed(over_https=self._road is self._https)
                    self._patience.failed(error)
                else:
                    return

    def _table(self, offer: Offer) -> PartTable:
        """Return the part table that the offer names."""
        data = self._road.table(offer, self._valve)
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
        table = part_file.table
        progress(part_file.done_bytes * table.size // max(table.encoded_size, 1))
        for part in part_file.missing():
            if self._neighbours is None or not self._neighbours.bring(offer, part_file, part):
                self._part(offer, part_file, part)
            progress(part_file.done_bytes * table.size // table.encoded_size)
        try:
            self._unpack(table, part_file, offer.base)
        except IntegrityError:
            # The disk changed a part, which the next try finds and fetches; or the registry
            # offers what it does not have, and the next try costs no download.
            part_file.distrust()
            raise
        if self._shelf is not None:
            self._shelf.keep(offer.parts_sha256, part_file)
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

    def _part(self, offer: Offer, part_file: PartFile, part: int) -> None:
        """Get one part, from where it was cut."""
        start, stop = part_file.table.span(part)
        while True:
            self._patience.stop_if_cancelled()
            got = part_file.begun(part)
            chunks = self._road.read(offer, start + got, stop, self._valve)
            with contextlib.closing(chunks):
                for chunk in chunks:
                    part_file.write(part, got, chunk)
                    got += len(chunk)
                    self._roads.worked(over_https=self._road is self._https)
            if start + got < stop:
                continue  # no more was to be had at once
            if part_file.complete(part):
                return
            self._count_wrong(part_file.table, part)

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
