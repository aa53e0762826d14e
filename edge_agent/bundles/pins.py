"""Blobs that nothing refers to yet, and that must stay all the same: somebody is bringing them."""

import threading
from collections.abc import Collection

from runtime.digests import Digest


class Pins:
    """Which blobs are being brought, by the bundle for which. Any thread may ask and tell."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held while blobs are counted and removed: a pin is set before or after, not meanwhile."""
        self._blobs: dict[Digest, frozenset[Digest]] = {}

    def keep(self, bundle: Digest, blobs: Collection[Digest]) -> None:
        """Keep these blobs until `clear`."""
        with self.lock:
            self._blobs[bundle] = frozenset(blobs)

    def clear(self, bundle: Digest) -> None:
        """Let the blobs of a bundle go, unless something refers to them."""
        with self.lock:
            self._blobs.pop(bundle, None)

    def kept(self) -> set[Digest]:
        """Return all blobs to keep; the caller holds the lock."""
        return {blob for blobs in self._blobs.values() for blob in blobs}
