"""Brings a bundle's missing blobs to the device, through every cut, and only what is missing.

    index blob ──► which blobs are missing ──► offers for up to 64 of them ──► room on the disk?
        each blob:  part table ──► parts, in order, each checked ──► decoded into the blob store

Whatever happens, what has arrived stays: a cut connection, a kill, a power cut or an expired URL
costs the bytes that were in flight. What waiting may mend is tried again with growing waits; after
several failures without one new byte it is the caller's turn (LinkError), who tries again later.
What waiting cannot mend ends at once, so that a wrong registry costs no data volume. A blob that
came as a delta and does not decode is fetched whole: once, and the registry is told.
"""

import contextlib
import functools
import itertools
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from edge_agent.bundles import partfile, room
from edge_agent.bundles.doubts import Doubts
from edge_agent.bundles.download import Downloader
from edge_agent.bundles.offers import PLAIN, Ask, Means, Offers
from edge_agent.bundles.patience import POLL_S, FetchCancelledError, Patience
from edge_agent.bundles.ranges import RangeClient
from edge_agent.bundles.spent import Spent
from runtime import digests, files, messages
from runtime.bundle import index, variants
from runtime.bundle.blobs import BlobStore
from runtime.bundle.index import Index
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError
from runtime.messages import Offer, Transfer
from runtime.retry import Backoff

__all__ = ["FetchCancelledError", "Fetcher"]

log = logging.getLogger(__name__)

RESERVE_BYTES = 64 << 20
"""What a download leaves free on the disk."""
TIMEOUT_S = 30.0


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
        held: Callable[[], Sequence[Digest]] = tuple,
        memory: Callable[[], int] = room.for_decoding,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Sweep away what a killed process left half-written, in `blobs` too.

        `work` holds downloads; it lies on the file system of `blobs`. Offers without a host are
        relative to `base_url`. `bytes_per_s` caps the average rate. `held` returns the bundles
        whose files are in `blobs`, newest first: deltas build on these. `memory` returns how many
        bytes decoding may use. `facts` choose among a bundle's variants.
        """
        self.blobs, self.work, self.ask = blobs, files.make_directory(work), ask
        self.base_url, self.reserve_bytes, self.bytes_per_s = base_url, reserve_bytes, bytes_per_s
        self.backoff = backoff or Backoff(first_s=1.0, most_s=60.0)
        self.held, self.memory, self.facts = held, memory, dict(facts or {})
        self.spent: dict[Digest, Spent] = {}
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
        warn: Callable[[str], None] = lambda _text: None,
    ) -> Index:
        """Return a bundle's index once all its blobs are in the store.

        `progress` is told bytes done and bytes in total, both unpacked, of what was missing at the
        start. `cancelled` is asked often; if it says so, raises FetchCancelledError. `warn` is told
        what did not work, though the bundle is fetched all the same. Raises
        LinkError, IntegrityError or SpaceError, after which a later call goes on from what has
        arrived; InvalidError if trying again is of no use.
        """
        patience = Patience(self.backoff, cancelled)
        while not self._turn.acquire(timeout=POLL_S):
            patience.stop_if_cancelled()
        try:
            client = RangeClient(
                ca_file=self._ca_file, timeout_s=self._timeout_s, registry_url=self.base_url
            )
            with contextlib.closing(client):
                return _Fetch(self, client, patience, progress, warn).run(bundle)
        finally:
            self._discard()
            self._turn.release()

    def transfer(self, bundle: Digest) -> Transfer:
        """Return what it has cost to bring a bundle so far."""
        return self.spent.get(bundle, Spent()).transfer

    def retain(self, bundles: Collection[Digest]) -> None:
        """Remove the partial downloads of all bundles but these, at once or when none runs."""
        self._retained = frozenset(bundles)
        if self._turn.acquire(blocking=False):
            try:
                self._discard()
            finally:
                self._turn.release()

    def seen(self, bundle: Digest) -> Index:
        """Return the index of a bundle in the store, as this device sees it."""
        return variants.seen_by(index.decode(self.blobs.path(bundle).read_bytes()), self.facts)

    def _discard(self) -> None:
        bundles, self._retained = self._retained, None
        if bundles is None:
            return
        self.spent = {bundle: cost for bundle, cost in self.spent.items() if bundle in bundles}
        keep: set[str] = set(bundles)
        for bundle in bundles:
            # An index that is missing or damaged is fetched first, and names no blob until then.
            with contextlib.suppress(FileNotFoundError, InvalidError):
                listed = self.seen(bundle)
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
        warn: Callable[[str], None],
    ) -> None:
        self._fetcher, self._patience = fetcher, patience
        self._progress, self._warn = progress, warn
        self._blobs, self._work = fetcher.blobs, fetcher.work
        self._memory_bytes = fetcher.memory()
        self._doubts = Doubts(fetcher.work)
        self._spent = Spent()
        self._downloader = Downloader(
            fetcher.blobs,
            fetcher.work,
            client,
            patience,
            base_url=fetcher.base_url,
            bytes_per_s=fetcher.bytes_per_s,
            memory_bytes=self._memory_bytes,
            received=self._received,
        )
        self._names: dict[Digest, str] = {}
        self._sound: set[Digest] = set()
        """Bases whose bytes were compared with their names."""
        self._left_bytes = self._total_bytes = 0

    def run(self, bundle: Digest) -> Index:
        """Return the index once everything that it lists is here."""
        held = tuple(one for one in self._fetcher.held() if one != bundle)
        means = Means(bundle, held, self._memory_bytes)
        self._offers = Offers(self._fetcher.ask, means, self._doubts, self._patience)
        self._spent = self._fetcher.spent.setdefault(bundle, Spent())
        listed = self._index(bundle)
        self._names = {entry.sha256: entry.path for entry in listed.files}
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
            self._bring(self._offers.of(group, missing))
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
            self._bring(self._offers.of([bundle], {}))
        return self._fetcher.seen(bundle)

    def _bring(self, offers: list[Offer]) -> None:
        """Download and unpack what is offered."""
        self._require_room(offers)
        for offer in offers:
            try:
                self._take(offer)
            except (IntegrityError, InvalidError) as error:
                if self._taken.encoding in PLAIN:
                    raise
                offer = self._instead(self._taken, error)  # noqa: PLW2901 - it stands for that one
                self._require_room([offer])
                self._take(offer)
            self._spent.whole[offer.blob] = self._taken.whole_size or self._taken.encoded_size
            partfile.discard(self._work, offer.blob.__eq__)
            if self._total_bytes:
                self._left_bytes -= offer.size
            self._tell(0)

    def _require_room(self, offers: list[Offer]) -> None:
        """Raise SpaceError unless there is room for all that is missing, and for one encoded."""
        unpacked = self._left_bytes or sum(offer.size for offer in offers)
        packed = max((offer.encoded_size - self._held(offer) for offer in offers), default=0)
        files.require_space(self._work, unpacked + max(packed, 0) + self._fetcher.reserve_bytes)

    def _take(self, offer: Offer) -> None:
        self._accept(offer)
        renew = functools.partial(self._renewed, offer)
        self._downloader.bring(offer, renew=renew, progress=self._tell)

    def _accept(self, offer: Offer) -> Offer:
        """Return an offer that is followed from now on; raise IntegrityError for a bad base."""
        self._taken = offer
        if offer.base is not None:
            self._require_sound(offer.base)
        return offer

    def _require_sound(self, base: Digest) -> None:
        """Raise IntegrityError unless a base is what its name says.

        Read before the download: that costs less than a delta which cannot be used.
        """
        if base in self._sound:
            return
        path = self._blobs.path(base)
        got = digests.of_file(path) if path.is_file() else "nothing"
        if got != base:
            raise IntegrityError(f"base {base} on this disk", wanted=base, got=got)
        self._sound.add(base)

    def _instead(self, offer: Offer, error: Exception) -> Offer:
        """Return an offer of the whole blob, for one that did not work; tell of it."""
        self._doubts.refuse(offer.blob)
        for path in partfile.paths(self._work, offer.blob, offer.encoding, offer.base):
            files.remove(path)
        of = f" from {offer.base[:12]}" if offer.base else ""
        name = self._names.get(offer.blob, "the index")
        log.warning(
            "fetching the whole instead",
            extra={"blob": offer.blob, "encoding": offer.encoding, "reason": str(error)},
        )
        self._warn(f"{offer.encoding} of {name}{of} failed, fetched the whole: {error}")
        return self._offers.of([offer.blob], {offer.blob: offer.size})[0]

    def _received(self, count: int) -> None:
        self._spent.received_bytes += count

    def _renewed(self, offer: Offer) -> Offer:
        """Return an offer of the same blob whose URL has not expired; perhaps another encoding."""
        return self._accept(self._offers.of([offer.blob], {offer.blob: offer.size})[0])

    def _held(self, offer: Offer) -> int:
        """Return how many bytes of a download are on the disk already."""
        path, _ = partfile.paths(self._work, offer.blob, offer.encoding, offer.base)
        return path.stat().st_size if path.exists() else 0

    def _tell(self, begun_bytes: int) -> None:
        """Report progress, with these bytes of the blob that is on its way; not for the index."""
        if self._total_bytes:
            self._progress(self._total_bytes - self._left_bytes + begun_bytes, self._total_bytes)


def _groups(blobs: list[Digest]) -> Iterator[list[Digest]]:
    """Yield as many blobs at a time as one request may name."""
    rest = iter(blobs)
    while group := list(itertools.islice(rest, messages.MAX_OFFER_BLOBS)):
        yield group
