"""Makes encodings before devices ask: one thread, one encoding at a time, each in a child.

    a version is registered, a deployment is made,
    a device could have used a delta, or a minute has passed
        └─► read what the fleet runs ─► pairs, in order (policy) ─► make one ─► still the same? next
                                                                      └─► too much kept? evict

Each encoding is noted before it is begun, so that one which takes the process down is not tried for
ever; it is durable in the store before it is called ready. Killed at any moment, the next start
goes on.
"""

import io
import logging
import threading
import time
from collections.abc import Iterator

from sqlalchemy.exc import OperationalError

from cloud.deltas import demand, ledger, pack, policy
from cloud.deltas.ledger import Entry, State
from cloud.deltas.listings import Listings
from cloud.deltas.pack import Packer
from cloud.deltas.policy import Kept, Pair
from cloud.services import Change, Services
from cloud.storage.encodings import AUTO, Encode, Recipe
from runtime.bundle import encodings
from runtime.bundle.delta import format  # noqa: A004 - a module, always named in full
from runtime.digests import Digest
from runtime.errors import PackhorseError, SpaceError

log = logging.getLogger(__name__)

LOOK_S = 60.0
"""Devices' reports are looked at this often, if nothing else calls."""
PAUSE_S = 30.0
"""After a trouble that is not the encoding's own: a full disk, a busy database."""
MOST_TRIES = 3
AGAIN_S = 3600.0
"""An encoding that failed is tried again after so long, then after twice that."""
MAX_HEADER_BYTES = 256
"""More than the header of any delta file."""
TIDY_S = 600.0
"""What is stored is counted this often, and whenever something was made."""
SPARE = 20.0
"""So many times as long as it took to look through the fleet, it is left alone before."""
_POLL_S = 0.5

Known = dict[Recipe, Entry]


class Maker:
    """The duty "deltas" of `packhorse serve`."""

    def __init__(self, services: Services) -> None:
        """Hear of versions and deployments from `services`."""
        self._services, self._wishes = services, services.wishes
        self._listings = Listings(services.blobs)
        self._pairs: list[Pair] = []
        self._wished: dict[Pair, int] = {}
        """Of this process: a wish holds until it is made, or cannot be."""
        self._deployed: frozenset[Digest] = frozenset()
        self._encode: Encode = pack.encode
        self._looked_s = self._tidy_at = 0.0
        for change in (Change.VERSIONS, Change.DESIRED):
            services.notifier.subscribe(change, self._wishes.woken.set)

    def run(self, stopping: threading.Event) -> None:
        """Make what is needed until `stopping`."""
        self._encode = Packer(stopping).encode
        look_at = 0.0
        while not stopping.is_set():
            if not self._wishes.woken.wait(_POLL_S) and time.monotonic() < look_at:
                continue
            look_at = time.monotonic() + LOOK_S
            # A large fleet is not looked through all the time, however often it changes, and not
            # while it is being told of a change.
            if stopping.wait(SPARE * self._looked_s):
                return
            try:
                self.work(stopping)
            except (PackhorseError, OperationalError) as error:
                if stopping.is_set():  # its child was stopped with it
                    return
                log.warning("no deltas are made for now", extra={"why": str(error)})
                stopping.wait(PAUSE_S)

    def work(self, stopping: threading.Event) -> None:
        """Make all that is missing now; raise SpaceError or OperationalError if that cannot be."""
        made, is_news = True, False
        while made and not stopping.is_set():
            self._wishes.woken.clear()
            made = False
            for recipe, known in self._missing():
                self._make(recipe, known, stopping)
                made = is_news = True
                # Somebody may wait for something else by now.
                if stopping.is_set() or self._wishes.woken.is_set():
                    break
        self._write_down_uses()
        if is_news or time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + TIDY_S
            self._evict()

    def _missing(self) -> Iterator[tuple[Recipe, Known]]:
        """Yield what to make, most useful first, each with what is known of its blob."""
        wished = self._wishes.take_wanted()
        self._wished = {**self._wished, **wished}
        started = time.monotonic()
        with self._services.reading() as session:
            read = demand.read(session)
            whole = demand.blobs_of(session, read.whole)
        self._looked_s = time.monotonic() - started
        self._deployed = read.deployed
        pairs = policy.pairs(demand.movements(read, self._listings), self._wished)
        blobs = dict.fromkeys((*(pair.blob for pair in pairs), *whole))
        with self._services.reading() as session:
            known = ledger.entries(session, blobs)
        self._wished = {pair: count for pair, count in self._wished.items() if pair in pairs}
        for pair in pairs:
            # The plain whole is what a delta is measured against, and quickly made.
            for recipe in (Recipe(pair.blob, encodings.ZSTD), _delta(pair)):
                if self._is_due(recipe, known):
                    yield recipe, known
        for blob, size in whole.items():
            for recipe in _wholes(blob) if size >= policy.LEAST_BYTES else ():
                if self._is_due(recipe, known):
                    yield recipe, known

    def _is_due(self, recipe: Recipe, known: Known) -> bool:
        if recipe.base is not None and self._services.settings.encodings_cache_bytes == 0:
            return False
        entry = known.get(recipe)
        if entry is None:
            return True
        if entry.state is State.READY:
            return recipe.base is not None and self._is_missed(recipe, known)
        if entry.state is State.USELESS or entry.tries >= MOST_TRIES:
            return False
        waited_s = self._services.clock.now() - entry.made_at
        # What was begun and not ended was interrupted, most likely by the end of the process.
        return entry.state is State.MAKING or waited_s >= AGAIN_S * entry.tries

    def _is_missed(self, recipe: Recipe, known: Known) -> bool:
        """Say whether a delta that was made is asked for, and is evicted or lost by now."""
        return Pair(recipe.blob, recipe.base or recipe.blob) in self._wished and not any(
            self._services.encodings.ready(made)
            for made in known
            if (made.blob, made.base) == (recipe.blob, recipe.base) and made.encoding != AUTO
        )

    def _make(self, recipe: Recipe, known: Known, stopping: threading.Event) -> None:
        """Make one encoding and note what became of it."""
        services, started = self._services, time.monotonic()
        with services.transaction() as session:
            ledger.begin(session, recipe, now=services.clock.now())
        made, state, size, memory, reason = recipe, State.READY, 0, 0, ""
        try:
            made, size, memory = self._encoded(recipe)
        except PackhorseError as error:
            if stopping.is_set() or isinstance(error, SpaceError):
                with services.transaction() as session:
                    ledger.undo(session, recipe)
                raise
            state, reason = State.FAILED, str(error)
            log.warning("encoding failed", extra={**_named(recipe), "why": reason})
        if state is State.READY and not _is_worth_it(made, size, known):
            state = State.USELESS
            services.encodings.delete(made)
        now = services.clock.now()
        entry = Entry(state, size, memory, MOST_TRIES, now, now)
        with services.transaction() as session:
            for each in {recipe, made}:
                known[each] = entry
                ledger.end(session, each, entry, reason=reason)
        if recipe.base is not None and state is not State.FAILED:
            self._wished.pop(Pair(recipe.blob, recipe.base), None)
        seconds = round(time.monotonic() - started, 3)
        extra = {**_named(made), "state": state.value, "bytes": size, "seconds": seconds}
        log.info("encoding made", extra=extra)

    def _encoded(self, recipe: Recipe) -> tuple[Recipe, int, int]:
        """Make an encoding; return what it is, its size, and the memory that decoding it takes."""
        services = self._services
        if recipe.encoding == encodings.ZSTD:
            return recipe, services.encodings.get(recipe).table.encoded_size, 0
        made = services.encodings.get(recipe, encode=self._encode)
        head = b"".join(services.store.read(made.key, 0, MAX_HEADER_BYTES))
        header = format.read_header(format.Source(io.BytesIO(head)))
        return made.recipe, made.table.encoded_size, header.memory_bytes

    def _write_down_uses(self) -> None:
        used = self._wishes.take_used()
        if used:
            with self._services.transaction() as session:
                ledger.used(session, used)

    def _evict(self) -> None:
        """Keep below the cap."""
        services = self._services
        stored = list(services.encodings.stored())
        cap_bytes = services.settings.encodings_cache_bytes
        if sum(one.size_bytes for one in stored) <= cap_bytes:
            return
        with services.reading() as session:
            known = ledger.entries(session, {one.recipe.blob for one in stored})
            protected = demand.blobs_of(session, self._deployed)
        kept = [
            _kept(one.recipe, one.size_bytes, one.made_at, known.get(one.recipe)) for one in stored
        ]
        going = policy.evictions(
            kept,
            cap_bytes=cap_bytes,
            protected=protected,
            busy_since=services.clock.now() - services.settings.presign_ttl_s,
        )
        recipes = [Recipe(one.blob, one.encoding, one.base) for one in going]
        with services.transaction() as session:
            ledger.forget(session, recipes, State.EVICTED)
        for recipe in recipes:
            services.encodings.delete(recipe)
            log.info("encoding evicted", extra=_named(recipe))


def _wholes(blob: Digest) -> tuple[Recipe, ...]:
    return tuple(Recipe(blob, encoding) for encoding in (encodings.ZSTD, encodings.PLANES))


def _delta(pair: Pair) -> Recipe:
    return Recipe(pair.blob, AUTO, pair.base)


def _is_worth_it(recipe: Recipe, size: int, known: Known) -> bool:
    """Say whether a new encoding beats what the blob has already."""
    if recipe.encoding == encodings.ZSTD:
        return True
    rivals = [
        (other, entry.size_bytes)
        for other, entry in known.items()
        if other.blob == recipe.blob and entry.state is State.READY and entry.size_bytes
    ]
    whole = min((least for other, least in rivals if other.base is None), default=None)
    if recipe.base is None:
        return whole is None or size < whole
    return whole is None or policy.is_gain(size, whole)


def _kept(recipe: Recipe, size_bytes: int, made_at: float, entry: Entry | None) -> Kept:
    if entry is not None:
        made_at, used_at = entry.made_at, entry.used_at
    else:
        used_at = made_at
    return Kept(recipe.encoding, recipe.blob, recipe.base, size_bytes, made_at, used_at)


def _named(recipe: Recipe) -> dict[str, str]:
    return {"blob": recipe.blob, "encoding": recipe.encoding, "base": recipe.base or ""}
