"""One bundle's way to the device: index, missing blobs, offers, room, each blob."""

import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edge_agent.bundles import partfile
from edge_agent.bundles.doubts import Doubts
from edge_agent.bundles.download import Downloader
from edge_agent.bundles.offers import PLAIN, Means, Offers
from edge_agent.bundles.patience import Patience
from edge_agent.bundles.ranges import RangeClient
from edge_agent.bundles.roads import HttpsRoad
from edge_agent.bundles.spent import Spent
from edge_agent.lan.peers import Peers
from edge_agent.mind.terms import Terms
from runtime import digests, files, messages
from runtime.bundle.index import Index
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError
from runtime.messages import Offer

if TYPE_CHECKING:  # that one makes these
    from edge_agent.bundles.fetch import Fetcher

log = logging.getLogger(__name__)


class Journey:
    """One call of `Fetcher.fetch`; for one thread."""

    def __init__(
        self,
        fetcher: "Fetcher",
        client: RangeClient,
        patience: Patience,
        progress: Callable[[int, int], None],
        warn: Callable[[str], None],
    ) -> None:
        """Bring what `fetcher` shall, by `client` or another of its roads."""
        self._fetcher, self._client, self._patience = fetcher, client, patience
        self._progress, self._warn = progress, warn
        self._blobs, self._work = fetcher.blobs, fetcher.work
        self._memory_bytes = fetcher.memory()
        self._doubts = Doubts(fetcher.work)
        self._spent = Spent()
        self._names: dict[Digest, str] = {}
        self._sound: set[Digest] = set()
        """Bases whose bytes were compared with their names."""
        self._left_bytes = self._total_bytes = 0

    def run(self, bundle: Digest, terms: Terms) -> Index:
        """Return the index once everything that it lists is here."""
        with contextlib.ExitStack() as opened:
            self._downloader = self._equipped(bundle, terms, opened)
            return self._run(bundle)

    def _equipped(self, bundle: Digest, terms: Terms, opened: contextlib.ExitStack) -> Downloader:
        fetcher = self._fetcher
        valve = fetcher.valve(bundle, terms, self._patience, self._received, opened)
        neighbours, sharing = None, fetcher.sharing
        if sharing is not None and sharing.address():
            context = sharing.papers.for_asking()
            neighbours = Peers(context, self._patience, self._received_from_neighbours)
            opened.callback(neighbours.close)
        return Downloader(
            fetcher.blobs,
            fetcher.work,
            HttpsRoad(self._client, fetcher.base_url),
            fetcher.roads,
            valve,
            memory_bytes=self._memory_bytes,
            neighbours=neighbours,
            shelf=sharing.shelf if neighbours and sharing else None,
        )

    def _run(self, bundle: Digest) -> Index:
        held = tuple(one for one in self._fetcher.held() if one != bundle)
        sharing = self._fetcher.sharing
        lan = "" if sharing is None else sharing.address()
        means = Means(bundle, held, self._memory_bytes, lan)
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
        needed = unpacked + max(packed, 0) + self._fetcher.reserve_bytes
        sharing = self._fetcher.sharing
        if sharing is not None and files.free_bytes(self._work) < needed:
            sharing.shelf.clear()  # the neighbours find it elsewhere
        files.require_space(self._work, needed)

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

    def _received_from_neighbours(self, count: int) -> None:
        self._spent.neighbour_bytes += count

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
