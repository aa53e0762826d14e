"""Asks the registry how to get blobs, and refuses offers that cannot be meant.

The registry is told what this device has and how much memory it may use, and offers the smallest
that will do. Blobs whose deltas did not work here are asked for whole, in requests of their own.
"""

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from edge_agent.bundles.doubts import Doubts
from edge_agent.bundles.patience import Patience
from runtime import digests, messages
from runtime.bundle import encodings, index
from runtime.digests import Digest
from runtime.errors import InvalidError, LinkError
from runtime.messages import FetchRequest, FetchResponse, Offer

Ask = Callable[[FetchRequest], FetchResponse]
"""Sends a request to the registry and waits for its answer; raises LinkError if none comes."""

MOST_WAIT_S = 60.0
"""The longest that a device waits for neighbours who show no progress."""
PLAIN = (encodings.ZSTD,)
"""What always works: whole, and decoded in this process."""


@dataclass(frozen=True)
class Means:
    """What a device brings to a download."""

    bundle: Digest
    held: tuple[Digest, ...]
    """Bundles that it has, newest first."""
    memory_bytes: int
    """What decoding may use."""
    lan: str = ""
    """Where it gives parts to neighbours."""


class Offers:
    """Gets offers for blobs of one bundle; for one thread."""

    def __init__(self, ask: Ask, means: Means, doubts: Doubts, patience: Patience) -> None:
        """Ask as long as `patience` lasts."""
        self._ask, self._means, self._doubts, self._patience = ask, means, doubts, patience

    def of(self, blobs: Collection[Digest], sizes: dict[Digest, int]) -> list[Offer]:
        """Return an offer for each blob, in any order; `sizes` are those that the index names.

        Raises LinkError when patience ends, InvalidError if asking again is of no use.
        """
        whole = [blob for blob in blobs if self._doubts.about(blob)]
        rest = [blob for blob in blobs if blob not in whole]
        found = []
        for group, known in ((whole, PLAIN), (rest, encodings.DECODABLE)):
            missing = group
            while missing:
                some = self._some(missing, known, sizes)
                found += some
                missing = [blob for blob in missing if all(blob != one.blob for one in some)]
        return found

    def _some(
        self, blobs: Sequence[Digest], known: tuple[str, ...], sizes: dict[Digest, int]
    ) -> list[Offer]:
        """Return an offer for at least one of these: an answer has room for so many URLs."""
        while True:
            self._patience.require_leave()
            try:
                return self._once(blobs, known, sizes)
            except LinkError as error:
                self._patience.failed(error)

    def _once(
        self, blobs: Sequence[Digest], known: tuple[str, ...], sizes: dict[Digest, int]
    ) -> list[Offer]:
        request = FetchRequest(
            secrets.token_hex(8),
            tuple(blobs),
            known,
            bundle=self._means.bundle,
            held=self._means.held[: messages.MAX_HELD_BUNDLES],
            memory_bytes=self._means.memory_bytes,
            lan=self._means.lan,
        )
        response = self._ask(request)
        if response.error and not response.retryable:
            raise InvalidError("fetch", blobs[0], response.error)
        offered = {offer.blob: offer for offer in response.offers}
        found = [offered[blob] for blob in blobs if blob in offered]
        if response.error or not found:
            raise LinkError(response.error or f"the registry offers no blob {blobs[0]}")
        return [require_sane(offer, known, sizes.get(offer.blob)) for offer in found]


def require_sane(offer: Offer, known: Collection[str], size: int | None) -> Offer:
    """Return an offer that fits what was asked and what the index says; else raise InvalidError."""
    if offer.encoding not in known:
        raise InvalidError("offer.encoding", offer.encoding, "offer one that was asked for")
    if (offer.base is None) == (offer.encoding in encodings.BUILDING):
        raise InvalidError("offer.base", offer.base, f"{offer.encoding} says otherwise")
    if offer.base is not None:
        digests.parse(offer.base, "offer.base")  # it becomes part of a file's name
    limit = index.MAX_INDEX_BYTES if size is None else size
    if not 0 <= offer.size <= limit or (size is not None and offer.size != size):
        raise InvalidError("offer.size", offer.size, f"blob {offer.blob} has {limit} bytes")
    # No encoding adds more than this; whoever offers more wants to fill the disk.
    if not 0 <= offer.encoded_size <= offer.size + (offer.size >> 8) + 1024:
        raise InvalidError("offer.encoded_size", offer.encoded_size, "offer an encoding that saves")
    if not 0 <= offer.wait_s <= MOST_WAIT_S:
        raise InvalidError("offer.wait_s", offer.wait_s, f"give 0 to {MOST_WAIT_S:g} seconds")
    return offer
