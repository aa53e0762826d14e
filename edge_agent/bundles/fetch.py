"""Brings a bundle's missing blobs to the device, through every cut, and only what is missing.

    index blob ──► which blobs are missing ──► offers for up to 64 of them ──► room on the disk?
        each blob:  part table ──► parts, in order, each checked ──► decoded into the blob store

Whatever happens, what has arrived stays: a cut connection, a kill, a power cut or an expired URL
costs the bytes that were in flight. What waiting may mend is tried again with growing waits; after
several failures without one new byte it is the caller's turn (LinkError), who tries again later.
What waiting cannot mend ends at once, so that a wrong registry costs no data volume.
"""

import contextlib
import functools
import itertools
import logging
import secrets
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from edge_agent.bundles import partfile
from edge_agent.bundles.download import POLL_S, Downloader, FetchCancelledError, Patience
from edge_agent.bundles.ranges import RangeClient
from runtime import files, messages
from runtime.bundle import encodings, index
from runtime.bundle.blobs import BlobStore
from runtime.bundle.index import Index
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError, LinkError
from runtime.messages import FetchRequest, FetchResponse, Offer
from runtime.retry import Backoff

__all__ = ["FetchCancelledError", "Fetcher"]

log = logging.getLogger(__name__)

RESERVE_BYTES = 64 << 20
"""What a download leaves free on the disk."""
TIMEOUT_S = 30.0

Ask = Callable[[FetchRequest], FetchResponse]
"""Sends a request to the registry and waits for its answer; raises LinkError if none comes."""


class Fetcher:
    """Downloads bundles, one at a time. Any thread may call it."""

    def __init__(
        self,
        blobs: BlobStore,
        work: Path,
        ask: Ask,
        ca_file: Path | None,
        *,
        base_url: str = "",
        reserve_bytes: int = RESERVE_BYTES,
        bytes_per_s: int | None = None,
        timeout_s: float = TIMEOUT_S,
        backoff: Backoff | None = None,
    ) -> None:
        """Sweep away what a killed process left half-written, in `blobs` too.

        `work` holds downloads; it lies on the file system of `blobs`. Offers without a host are
        relative to `base_url`. `bytes_per_s` caps the average rate.
        """
        self.blobs, self.work, self.ask = blobs, files.make_directory(work), ask
        self.base_url, self.reserve_bytes, self.bytes_per_s = base_url, reserve_bytes, bytes_per_s
        self.backoff = backoff or Backoff(first_s=1.0, most_s=60.0)
        self._ca_file, self._timeout_s = ca_file, timeout_s
        self._turn = threading.Lock()
        self._retained: frozenset[Digest] | None = None
        blobs.sweep()
        files.sweep_temporaries(work)
        stored = set(blobs.digests())
        partfile.discard(work, lambda blob: blob in stored)

    def fetch(
        self,
        bundle: Digest,
        *,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Index:
        """Return a bundle's index once all its blobs are in the store.

        `progress` is told bytes done and bytes in total, both unpacked, of what was missing at the
        start. `cancelled` is asked often; if it says so, raises FetchCancelledError. Raises
        LinkError, IntegrityError or SpaceError, after which a later call goes on from what has
        arrived; InvalidError if trying again is of no use.
        """
        patience = Patience(self.backoff, cancelled)
        while not self._turn.acquire(timeout=POLL_S):
            patience.stop_if_cancelled()
        try:
            client = RangeClient(ca_file=self._ca_file, timeout_s=self._timeout_s)
            with contextlib.closing(client):
                return _Fetch(self, client, patience, progress).run(bundle)
        finally:
            self._discard()
            self._turn.release()

    def retain(self, bundles: Collection[Digest]) -> None:
        """Remove the partial downloads of all bundles but these, at once or when none runs."""
        self._retained = frozenset(bundles)
        if self._turn.acquire(blocking=False):
            try:
                self._discard()
            finally:
                self._turn.release()

    def _discard(self) -> None:
        bundles, self._retained = self._retained, None
        if bundles is None:
            return
        keep: set[str] = set(bundles)
        for bundle in bundles:
            # An index that is missing or damaged is fetched first, and names no blob until then.
            with contextlib.suppress(FileNotFoundError, InvalidError):
                listed = index.decode(self.blobs.path(bundle).read_bytes())
                keep.update(entry.sha256 for entry in listed.files)
        partfile.discard(self.work, lambda blob: blob not in keep)


class _Fetch:
    """One call of `Fetcher.fetch`."""

    def __init__(
        self,
        fetcher: Fetcher,
        client: RangeClient,
        patience: Patience,
        progress: Callable[[int, int], None],
    ) -> None:
        self._fetcher, self._patience, self._progress = fetcher, patience, progress
        self._blobs, self._work = fetcher.blobs, fetcher.work
        self._downloader = Downloader(
            fetcher.blobs,
            fetcher.work,
            client,
            patience,
            base_url=fetcher.base_url,
            bytes_per_s=fetcher.bytes_per_s,
        )
        self._left_bytes = self._total_bytes = 0

    def run(self, bundle: Digest) -> Index:
        """Return the index once everything that it lists is here."""
        listed = self._index(bundle)
        missing = {}
        for entry in listed.files:
            there = self._blobs.has(entry.sha256)
            if there and self._blobs.size(entry.sha256) != entry.size:  # a disk that lost its end
                self._blobs.delete(entry.sha256)
                there = False
            if not there:
                missing[entry.sha256] = entry.size
        self._left_bytes = self._total_bytes = sum(missing.values())
        for group in _groups(list(missing)):
            self._bring(self._offers(group, missing))
        log.info(
            "bundle fetched",
            extra={"bundle": bundle, "blobs": len(missing), "bytes": self._total_bytes},
        )
        return listed

    def _index(self, bundle: Digest) -> Index:
        """Return the bundle's index, fetched if it is missing or damaged."""
        if self._blobs.has(bundle):
            with contextlib.suppress(IntegrityError):
                self._blobs.check(bundle)
        if not self._blobs.has(bundle):
            self._bring(self._offers([bundle], {}))
        return index.decode(self._blobs.path(bundle).read_bytes())

    def _offers(self, blobs: Sequence[Digest], sizes: dict[Digest, int]) -> list[Offer]:
        """Return an offer for each blob."""
        while True:
            self._patience.stop_if_cancelled()
            try:
                return self._ask(blobs, sizes)
            except LinkError as error:
                self._patience.failed(error)

    def _ask(self, blobs: Sequence[Digest], sizes: dict[Digest, int]) -> list[Offer]:
        request = FetchRequest(secrets.token_hex(8), tuple(blobs), encodings.DECODABLE)
        response = self._fetcher.ask(request)
        if response.error and not response.retryable:
            raise InvalidError("fetch", blobs[0], response.error)
        offered = {offer.blob: offer for offer in response.offers}
        absent = [blob for blob in blobs if blob not in offered]
        if response.error or absent:
            raise LinkError(response.error or f"the registry offers no blob {absent[0]}")
        return [_require_sane(offered[blob], sizes.get(blob)) for blob in blobs]

    def _bring(self, offers: list[Offer]) -> None:
        """Download and unpack what is offered, if there is room for everything that is missing."""
        unpacked = self._left_bytes or sum(offer.size for offer in offers)
        packed = max(offer.encoded_size - self._held(offer) for offer in offers)
        files.require_space(self._work, unpacked + max(packed, 0) + self._fetcher.reserve_bytes)
        for offer in offers:
            self._downloader.bring(
                offer, renew=functools.partial(self._renewed, offer), progress=self._tell
            )
            if self._total_bytes:
                self._left_bytes -= offer.size
            self._tell(0)

    def _renewed(self, offer: Offer) -> Offer:
        """Return an offer of the same blob whose URL has not expired."""
        return self._offers([offer.blob], {offer.blob: offer.size})[0]

    def _held(self, offer: Offer) -> int:
        """Return how many bytes of a download are on the disk already."""
        path, _ = partfile.paths(self._work, offer.blob, offer.encoding)
        return path.stat().st_size if path.exists() else 0

    def _tell(self, begun_bytes: int) -> None:
        """Report progress, with these bytes of the blob that is on its way; not for the index."""
        if self._total_bytes:
            self._progress(self._total_bytes - self._left_bytes + begun_bytes, self._total_bytes)


def _require_sane(offer: Offer, size: int | None) -> Offer:
    """Return an offer that fits what the index says; raise InvalidError for any other."""
    if offer.encoding not in encodings.DECODABLE:
        raise InvalidError("offer.encoding", offer.encoding, "offer one that was asked for")
    limit = index.MAX_INDEX_BYTES if size is None else size
    if not 0 <= offer.size <= limit or (size is not None and offer.size != size):
        raise InvalidError("offer.size", offer.size, f"blob {offer.blob} has {limit} bytes")
    # zstd never adds more than this; whoever offers more wants to fill the disk.
    if not 0 <= offer.encoded_size <= offer.size + (offer.size >> 8) + 1024:
        raise InvalidError("offer.encoded_size", offer.encoded_size, "offer an encoding that saves")
    return offer


def _groups(blobs: list[Digest]) -> Iterator[list[Digest]]:
    """Yield as many blobs at a time as one request may name."""
    rest = iter(blobs)
    while group := list(itertools.islice(rest, messages.MAX_OFFER_BLOBS)):
        yield group
