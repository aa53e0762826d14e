"""What an update costs each class of devices in bytes: the choice that cloud.deltas.selection makes
for a device, made for all of a kind, with every encoding there that serves it.

    variant          which of the new bundle's files they need
    holds            the old bundle (the variant of the same name), or nothing
    encodings        all that this version knows; or zstd alone, without the memory for others
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cloud import shapes
from cloud.deltas import policy
from cloud.deltas.policy import Option
from runtime.bundle import encodings, index, parts, variants
from runtime.bundle.index import Index
from runtime.bundle.parts import PartTable
from runtime.digests import Digest

ALL, WHOLE = "all", encodings.ZSTD
MEMORY_BYTES = 64 << 20
"""What devices give their decoder, unless they have none to give."""
_ANY_DIGEST = Digest("0" * 64)
"""All are written alike long."""


class Bundle(Protocol):
    """A bundle whose cost is asked for."""

    @property
    def label(self) -> str:
        """What a person calls it."""
        ...

    @property
    def bundle(self) -> Digest:
        """The digest of its index."""
        ...

    @property
    def index(self) -> Index:
        """What it is."""
        ...


@dataclass(frozen=True)
class Size:
    """How long an encoding of a blob is."""

    encoding: str
    base: Digest | None
    bytes: int
    memory_bytes: int
    """What decoding it takes."""
    estimated: bool = False


class Costs(Protocol):
    """Knows how long encodings are, or finds it out."""

    def sizes(self, blob: Digest, bases: Sequence[Digest]) -> list[Size]:
        """Return the encodings of a blob: whole ones, and deltas to any of `bases`."""
        ...


@dataclass(frozen=True)
class _Missing:
    """A blob that devices of a class lack."""

    blob: Digest
    size: int
    bases: tuple[Digest, ...]


@dataclass(frozen=True)
class _Class:
    variant: str
    holds: bool
    missing: tuple[_Missing, ...]


def table(old: Bundle, new: Bundle, known: Costs) -> list[shapes.UpdateCost]:
    """Return one row for each class of devices."""
    rows, found = [], {}
    for group in _classes(old, new):
        for each in group.missing:
            if (each.blob, each.bases) not in found:
                found[each.blob, each.bases] = known.sizes(each.blob, each.bases)
        for encoding in (ALL, WHOLE):
            names = encodings.KNOWN if encoding == ALL else (WHOLE,)
            taken = [_cheapest(found[each.blob, each.bases], names) for each in group.missing]
            rows.append(
                shapes.UpdateCost(
                    variant=group.variant,
                    holds=old.label if group.holds else None,
                    encodings=encoding,
                    bytes=sum(
                        size.bytes + table_bytes(each.size, size)
                        for each, size in zip(group.missing, taken, strict=True)
                    ),
                    blobs=len(taken),
                    deltas=sum(size.base is not None for size in taken),
                    estimated=any(size.estimated for size in taken),
                )
            )
    return rows


def bases(old: Index, new: Index) -> Iterator[tuple[Digest, int]]:
    """Yield the old blobs on which deltas are to be measured, with their sizes."""
    sizes = {entry.sha256: entry.size for entry in old.files}
    for group in _classes(_Nameless(old), _Nameless(new)):
        for each in group.missing:
            for blob in each.bases[:1]:
                yield blob, sizes[blob]


def models(bundle: Index) -> set[str]:
    """Return the paths of a bundle's model files."""
    steps = {f"{step.directory}/{step.index.model}" for step in bundle.steps if step.index.model}
    found = {bundle.model, *(each.model for each in bundle.variants), *steps}
    return found & {entry.path for entry in bundle.files}


def table_bytes(blob_size: int, size: Size) -> int:
    """Return how long the part table of an encoding is."""
    count = -(-size.bytes // parts.PART_BYTES)
    made = PartTable(
        format=parts.FORMAT,
        blob=_ANY_DIGEST,
        size=blob_size,
        encoding=size.encoding,
        encoded_size=size.bytes,
        part_size=parts.PART_BYTES,
        parts=(_ANY_DIGEST,) * count,
    )
    return len(parts.encode(made))


@dataclass(frozen=True)
class _Nameless:
    """A bundle of which only the index counts."""

    index: Index
    label: str = ""

    @property
    def bundle(self) -> Digest:
        """The digest of its index."""
        return index.identity(self.index)


def _classes(old: Bundle, new: Bundle) -> Iterator[_Class]:
    """Yield classes of devices, in the order of the bundle's variants; the top level comes last."""
    names = [*(each.name for each in new.index.variants), variants.DEFAULT]
    there = {each.name for each in old.index.variants}
    for name in names:
        seen = variants.named(new.index, name)
        had = variants.named(old.index, name if name in there else variants.DEFAULT)
        held = {old.bundle, *(entry.sha256 for entry in had.files)}
        before, after = policy.listing(old.bundle, had), policy.listing(new.bundle, seen)
        sizes = {new.bundle: len(index.encode(new.index))}
        sizes |= {entry.sha256: entry.size for entry in seen.files}
        yield _Class(
            name,
            holds=True,
            missing=tuple(
                _Missing(blob, size, tuple(policy.bases(after, blob, [before])))
                for blob, size in sizes.items()
                if blob not in held
            ),
        )
        nothing = tuple(_Missing(blob, size, ()) for blob, size in sizes.items())
        yield _Class(name, holds=False, missing=nothing)


def _cheapest(sizes: Sequence[Size], names: Sequence[str]) -> Size:
    """Return what a device is offered that knows these encodings."""
    by_option = {
        Option(each.encoding, each.base, each.bytes, _memory(each)): each for each in sizes
    }
    memory = MEMORY_BYTES
    whole = policy.choose((o for o in by_option if o.base is None), known=names, memory=memory)
    best = policy.choose(by_option, known=names, memory=memory)
    assert whole is not None, "zstd fits everywhere"
    assert best is not None, "as above"
    if not policy.is_gain(best.encoded_size, whole.encoded_size):
        best = whole
    return by_option[best]


def _memory(size: Size) -> int:
    return 0 if size.encoding == WHOLE else size.memory_bytes


class Finder(Protocol):
    """Makes an encoding to see how long it is, or estimates it."""

    def __call__(self, blob: Digest, encoding: str, base: Digest | None) -> Size | None:
        """Return what came of it, the smallest delta if there is a base; None: it cannot be."""
        ...


@dataclass(frozen=True)
class Measured:
    """Sizes that are known, and those that are found out by making the encoding or guessing."""

    known: Mapping[Digest, Sequence[Size]]
    """By blob; whatever is there counts."""
    useless: frozenset[tuple[Digest, str]]
    """(blob, encoding or base) of what was tried, and is not kept."""
    find: Finder

    def sizes(self, blob: Digest, bases: Sequence[Digest]) -> list[Size]:
        """Return the encodings of a blob: whole ones, and deltas to any of `bases`."""
        found = [
            each for each in self.known.get(blob, ()) if each.base is None or each.base in bases
        ]
        names = {each.encoding for each in found if each.base is None}
        for encoding in (encodings.ZSTD, encodings.PLANES):
            is_useless = encoding != encodings.ZSTD and (blob, encoding) in self.useless
            if encoding not in names and not is_useless:
                found += self._made(blob, encoding, None)
        has_delta = any(each.base is not None for each in found)
        if bases and not has_delta and (blob, bases[0]) not in self.useless:
            found += self._made(blob, encodings.TENSOR_DELTA, bases[0])
        return found

    def _made(self, blob: Digest, encoding: str, base: Digest | None) -> list[Size]:
        made = self.find(blob, encoding, base)
        return [] if made is None else [made]
