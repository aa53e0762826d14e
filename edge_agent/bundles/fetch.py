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
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edge_agent.bundles import partfile, purse, room
from edge_agent.bundles.journey import Journey
from edge_agent.bundles.offers import Ask
from edge_agent.bundles.patience import POLL_S, FetchCancelledError, Patience
from edge_agent.bundles.purse import Purse
from edge_agent.bundles.ranges import RangeClient
from edge_agent.bundles.roads import Roads
from edge_agent.bundles.spent import Spent
from edge_agent.bundles.valve import Valve
from edge_agent.lan.sharing import Sharing
from edge_agent.mind import terms as terms_of
from edge_agent.mind.terms import NO_TERMS, Terms
from edge_agent.pace import Pace
from runtime import files
from runtime.bundle import index, variants
from runtime.bundle.blobs import BlobStore
from runtime.bundle.index import Index
from runtime.clock import Clock, SystemClock
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.messages import Transfer
from runtime.retry import Backoff

__all__ = ["FetchCancelledError", "Fetcher", "Passage"]

log = logging.getLogger(__name__)

RESERVE_BYTES = 64 << 20
"""What a download leaves free on the disk."""
TIMEOUT_S = 30.0


class Passage(NamedTuple):
    """The way for bytes of a bundle that are no blobs of it."""

    valve: Valve
    spent: Spent


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
        pace: Pace | None = None,
        metered: bool = False,
        roads: Roads | None = None,
        sharing: Sharing | None = None,
        clock: Clock | None = None,
        timeout_s: float = TIMEOUT_S,
        backoff: Backoff | None = None,
        held: Callable[[], Sequence[Digest]] = tuple,
        memory: Callable[[], int] = room.for_decoding,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Sweep away what a killed process left half-written, in `blobs` too.

        `work` holds downloads; it lies on the file system of `blobs`. Offers without a host are
        relative to `base_url`. `pace` caps the rate. `metered`: the link costs by the byte.
        `roads` knows of other ways than https, `sharing` of neighbours. `held` returns the bundles
        whose files are in `blobs`, newest first: deltas build on these. `memory` returns how many
        bytes decoding may use. `facts` choose among a bundle's variants.
        """
        self.blobs, self.work, self.ask = blobs, files.make_directory(work), ask
        self.base_url, self.reserve_bytes, self.pace = base_url, reserve_bytes, pace
        self.metered, self.roads, self.clock = metered, roads or Roads(), clock or SystemClock()
        self.backoff, self.sharing = backoff or Backoff(first_s=1.0, most_s=60.0), sharing
        self.held, self.memory, self.facts = held, memory, dict(facts or {})
        self.spent: dict[Digest, Spent] = {}
        self._ca_file, self._timeout_s, self._turn = ca_file, timeout_s, threading.Lock()
        self._retained: frozenset[Digest] | None = None
        blobs.sweep()
        files.sweep_temporaries(work)
        stored = set(blobs.digests())
        partfile.discard(work, lambda blob: blob in stored)

    def start(self) -> None:
        """Begin to share with neighbours, where that is wanted."""
        if self.sharing is not None:
            self.sharing.start()

    def stop(self) -> None:
        """End what `start` began."""
        if self.sharing is not None:
            self.sharing.stop()

    def fetch(
        self,
        bundle: Digest,
        *,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
        cancelled: Callable[[], bool] = lambda: False,
        warn: Callable[[str], None] = lambda _text: None,
        terms: Terms = NO_TERMS,
    ) -> Index:
        """Return a bundle's index once all its blobs are in the store.

        `progress` is told bytes done and bytes in total, both unpacked, of what was missing at the
        start. `cancelled` is asked often; if it says so, raises FetchCancelledError. `warn` is told
        what did not work, though the bundle is fetched all the same. Raises
        LinkError, IntegrityError, SpaceError, or NotNowError for `terms` that do not hold now,
        after which a later call goes on from what has arrived; InvalidError, or BudgetError for
        `terms`, if trying again is of no use.
        """
        patience = Patience(self.backoff, cancelled, lambda: self._hindrance(terms))
        while not self._turn.acquire(timeout=POLL_S):
            patience.stop_if_cancelled()
        try:
            client = RangeClient(
                ca_file=self._ca_file, timeout_s=self._timeout_s, registry_url=self.base_url
            )
            with contextlib.closing(client):
                return Journey(self, client, patience, progress, warn).run(bundle, terms)
        finally:
            self._discard()
            self._turn.release()

    @contextlib.contextmanager
    def passage(
        self, bundle: Digest, *, cancelled: Callable[[], bool], terms: Terms
    ) -> Iterator[Passage]:
        """Give what bytes of a bundle pass that do not come as its blobs: images.

        The same terms, rate and purse hold for them, and they are counted with the others.
        """
        patience = Patience(self.backoff, cancelled, lambda: self._hindrance(terms))
        spent = self.spent.setdefault(bundle, Spent())

        def received(count: int) -> None:
            spent.received_bytes += count

        with contextlib.ExitStack() as opened:
            yield Passage(self.valve(bundle, terms, patience, received, opened), spent)

    def valve(
        self,
        bundle: Digest,
        terms: Terms,
        patience: Patience,
        received: Callable[[int], None],
        opened: contextlib.ExitStack,
    ) -> Valve:
        """Return what every byte of a bundle passes, until `opened` is closed."""
        own = None
        if terms.budget_bytes is not None:
            own = Purse(self.work, bundle, terms, terms.budget_bytes)
            opened.callback(own.settle)
        return Valve(patience, purse=own, pace=self.pace, received=received)

    def _hindrance(self, terms: Terms) -> terms_of.Wait | None:
        return terms_of.hindrance(terms, metered=self.metered, now=self.clock.now())

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
        purse.discard(self.work, {*bundles})
