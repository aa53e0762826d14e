"""Bundles' indexes, as far as deltas go, read once."""

import threading
from collections.abc import Iterable

from cloud.deltas import policy
from cloud.deltas.policy import Listing
from cloud.storage.blobs import Blobs
from runtime.bundle import index
from runtime.digests import Digest
from runtime.errors import InvalidError

MOST = 256


class Listings:
    """Remembers the last few hundred. Any thread may use it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs, self._lock = blobs, threading.Lock()
        self._known: dict[Digest, Listing] = {}

    def of(self, bundle: Digest) -> Listing | None:
        """Return a bundle's listing; None if its index is not here, or cannot be read."""
        known = self._known.get(bundle)
        if known is not None:
            return known
        try:
            content = self._blobs.bytes_of(bundle, limit_bytes=index.MAX_INDEX_BYTES)
            made = policy.listing(bundle, index.decode(content))
        except InvalidError:
            return None
        with self._lock:
            while len(self._known) >= MOST:
                del self._known[next(iter(self._known))]
            self._known[bundle] = made
        return made

    def of_all(self, bundles: Iterable[Digest]) -> list[Listing]:
        """Return the listings of those that are here."""
        return [found for bundle in bundles if (found := self.of(bundle)) is not None]
