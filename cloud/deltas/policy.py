"""Which deltas are worth making, which encoding a device gets, and what the cache gives up.

    what devices run, and what they shall or may run next  ─► movements ─► pairs, in order
    what is ready, what a device holds and may use         ─► choice
    what is stored, when it was last used                  ─► evictions

Functions of values; cloud.deltas.maker and cloud.deltas.selection do what they say.
"""

import collections
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from runtime.bundle.index import Index
from runtime.digests import Digest

LEAST_BYTES = 4096
"""Below this a delta saves less than it costs to ask for one."""
MOST_BASES = 4
"""Bases that are looked at for one blob and one device."""
GAIN = 0.95
"""A delta above this share of the best whole encoding is not worth keeping."""


@dataclass(frozen=True)
class File:
    """A file of a bundle, as far as deltas go."""

    path: str
    blob: Digest
    size: int
    is_model: bool


@dataclass(frozen=True)
class Listing:
    """A bundle, as far as deltas go."""

    bundle: Digest
    model: str
    files: tuple[File, ...]


@dataclass(frozen=True)
class Movement:
    """Devices that go, or may go, from one bundle to another."""

    source: Listing
    target: Listing
    devices: int
    wanted: bool
    """Their desired state says so already; else it is only likely."""


@dataclass(frozen=True)
class Pair:
    """A delta that could be made: from a base that devices have to a blob that they lack."""

    blob: Digest
    base: Digest


@dataclass(frozen=True)
class Option:
    """An encoding of a blob that could be offered."""

    encoding: str
    base: Digest | None
    encoded_size: int
    memory_bytes: int
    """What decoding takes, beside the decoder itself."""


@dataclass(frozen=True)
class Kept:
    """An encoding in the store."""

    encoding: str
    blob: Digest
    base: Digest | None
    size_bytes: int
    """Of encoded bytes and part table."""
    made_at: float
    used_at: float
    """When it was last offered, or `made_at` if it never was; seconds since 1970."""


def listing(bundle: Digest, index: Index) -> Listing:
    """Return what an index says of its bundle."""
    models = {index.model, *(each.model for each in index.variants)}
    models |= {f"{step.directory}/{step.index.model}" for step in index.steps}
    files = (File(each.path, each.sha256, each.size, each.path in models) for each in index.files)
    return Listing(bundle, index.name, tuple(files))


def bases(wanted: Listing, blob: Digest, held: Sequence[Listing]) -> list[Digest]:
    """Return the blobs of held bundles on which a delta to this blob may build, likeliest first.

    The same path of the same model comes first, then the same role, then the nearest size; of
    equals, that of the bundle named first.
    """
    file = next((each for each in wanted.files if each.blob == blob), None)
    if file is None or file.size < LEAST_BYTES:
        return []
    ranked = [
        (_distance(wanted, file, old, other), place, other.blob)
        for place, old in enumerate(held)
        for other in old.files
        if other.blob != blob and other.size >= LEAST_BYTES
    ]
    ranked.sort()
    return list(dict.fromkeys(base for _, _, base in ranked))[:MOST_BASES]


def _distance(wanted: Listing, file: File, old: Listing, other: File) -> tuple[bool, bool, int]:
    same_path = file.path == other.path
    same_role = file.is_model and other.is_model
    return (
        not (same_path and wanted.model == old.model),
        not (same_path or same_role),
        abs(file.size - other.size),
    )


def pairs(movements: Iterable[Movement], wishes: Mapping[Pair, int]) -> list[Pair]:
    """Return the deltas to be made, most useful first.

    What devices wait for comes before what they may need; within each, what most devices need.
    `wishes` are pairs that devices could have used, and how often.
    """
    awaited: collections.Counter[Pair] = collections.Counter(dict(wishes))
    likely: collections.Counter[Pair] = collections.Counter()
    for movement in movements:
        counter = awaited if movement.wanted else likely
        there = {file.blob for file in movement.source.files}
        for blob in dict.fromkeys(file.blob for file in movement.target.files):
            if blob not in there:
                for base in bases(movement.target, blob, [movement.source])[:1]:
                    counter[Pair(blob, base)] += movement.devices
    ordered = [pair for counter in (awaited, likely) for pair, _ in counter.most_common()]
    return list(dict.fromkeys(ordered))


def is_gain(encoded_size: int, best_whole_size: int) -> bool:
    """Say whether a delta is worth keeping."""
    return encoded_size <= GAIN * best_whole_size


def choose(
    options: Iterable[Option], *, known: Collection[str], memory: int | None
) -> Option | None:
    """Return the smallest that a device can decode within its memory; None: there is none.

    `memory` is in bytes; None: the device did not say. Of equals the whole is taken.
    """
    fitting = [
        option
        for option in options
        if option.encoding in known and option.memory_bytes <= (memory or 0)
    ]
    return min(fitting, key=lambda one: (one.encoded_size, one.base is not None), default=None)


def evictions(
    kept: Sequence[Kept], *, cap_bytes: int, protected: Collection[Digest], busy_since: float
) -> list[Kept]:
    """Return what has to go so that the rest is at most `cap_bytes`, if that can be.

    Deltas go first, then whole encodings; of each, those that were not used for longest. A whole
    encoding of a `protected` blob never goes, and nothing that was offered since `busy_since`:
    a device may be on its way through it.
    """
    over = sum(one.size_bytes for one in kept) - cap_bytes
    can_go = [
        one
        for one in kept
        if (one.base is not None or one.blob not in protected)
        and not (one.made_at < one.used_at and busy_since <= one.used_at)
    ]
    can_go.sort(key=lambda one: (one.base is None, one.used_at, one.blob))
    going = []
    for one in can_go:
        if over <= 0:
            break
        going.append(one)
        over -= one.size_bytes
    return going
