"""Which encoding of each blob a device is offered: the smallest that is ready and that it can use.

Nothing is made here but the whole blob, as zstd, where even that is missing. A delta that would
have served is noted, so that it is there for the next device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloud.deltas import ledger, policy
from cloud.deltas.ledger import Entry, State
from cloud.deltas.listings import Listings
from cloud.deltas.policy import Option, Pair
from cloud.services import Services
from cloud.storage.encodings import AUTO, EncodedBlob, Recipe
from runtime import digests, messages
from runtime.bundle import encodings
from runtime.digests import Digest
from runtime.errors import InvalidError, LinkError
from runtime.messages import FetchRequest

_SMALLER = frozenset(encodings.KNOWN) - {encodings.ZSTD}
"""What may be offered in place of the plain whole."""


@dataclass(frozen=True)
class Choice:
    """What a device is offered for one blob."""

    encoded: EncodedBlob
    whole_size: int
    """Encoded bytes of the best whole encoding that it could have had."""


class Selection:
    """Chooses; for one thread."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._listings = Listings(services.blobs)

    def choose(self, request: FetchRequest) -> list[Choice]:
        """Return a choice for each blob of a request that may be answered.

        Raises LinkError if a blob is lost, InvalidError if there is no encoding that both sides
        know.
        """
        if encodings.ZSTD not in request.encodings:
            fix = f"this registry sends {encodings.ZSTD} at least: upgrade the agent"
            raise InvalidError("encodings", ", ".join(request.encodings), fix)
        bases = self._bases(request)
        with self._services.reading() as session:
            known = ledger.entries(session, request.blobs)
        return [self._choice(blob, bases.get(blob, ()), known, request) for blob in request.blobs]

    def _bases(self, request: FetchRequest) -> dict[Digest, Sequence[Digest]]:
        """Return what the device has on which a delta to each blob may build.

        A bundle's digest is a secret between those who were given it: a device that names one has
        had it, and learns nothing new from a delta that builds on it.
        """
        if request.bundle is None or encodings.BUILDING.isdisjoint(request.encodings):
            return {}
        wanted = self._listings.of(digests.parse(request.bundle, "bundle"))
        if wanted is None:
            return {}
        named = request.held[: messages.MAX_HELD_BUNDLES]
        held = self._listings.of_all(digests.parse(each, "held") for each in named)
        return {blob: policy.bases(wanted, blob, held) for blob in request.blobs}

    def _choice(
        self,
        blob: Digest,
        bases: Sequence[Digest],
        known: Mapping[Recipe, Entry],
        request: FetchRequest,
    ) -> Choice:
        plain = self._plain(blob)
        options = [Option(encodings.ZSTD, None, plain.table.encoded_size, 0)]
        for recipe, entry in known.items():
            usable = recipe.base is None or recipe.base in bases
            if recipe.blob == blob and usable and entry.state is State.READY:
                found = Option(recipe.encoding, recipe.base, entry.size_bytes, entry.memory_bytes)
                options += [found] if found.encoding in _SMALLER else []
        names, memory = request.encodings, request.memory_bytes
        while True:
            whole = policy.choose(
                (one for one in options if one.base is None), known=names, memory=memory
            )
            best = policy.choose(options, known=names, memory=memory)
            assert whole is not None, "zstd fits everywhere"
            assert best is not None, "as above"
            if not policy.is_gain(best.encoded_size, whole.encoded_size):
                best = whole
            encoded = self._services.encodings.ready(Recipe(blob, best.encoding, best.base))
            if encoded is not None or best.encoding == encodings.ZSTD:
                break
            options.remove(best)  # the ledger calls it ready, but the store has lost it
        self._wish(blob, bases, known, options)
        return Choice(encoded or plain, whole.encoded_size)

    def _plain(self, blob: Digest) -> EncodedBlob:
        try:
            return self._services.encodings.get(Recipe(blob, encodings.ZSTD))
        except InvalidError as error:
            text = f"this registry has lost blob {blob}: push the bundle again, or mount its disk"
            raise LinkError(text) from error

    def _wish(
        self,
        blob: Digest,
        bases: Sequence[Digest],
        known: Mapping[Recipe, Entry],
        options: Sequence[Option],
    ) -> None:
        """Have the likeliest delta made, unless one is there or it is known to be of no use."""
        if not bases or any(option.base is not None for option in options):
            return
        entry = known.get(Recipe(blob, AUTO, bases[0]))
        if entry is None or entry.state not in {State.USELESS, State.FAILED}:
            self._services.wishes.want(Pair(blob, bases[0]))
