"""What a delta file says and where its bytes go, without decoding it."""

import collections
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle.delta import blocks, sections
from runtime.bundle.delta.blocks import Lane
from runtime.bundle.delta.format import Header, Source, read_header
from runtime.bundle.delta.sections import Block


@dataclass(frozen=True)
class Share:
    """All segments of one sort: how many bytes of the new file, from how many of the delta."""

    what: str
    """"copy", or "change" or "fresh" with the element type: "change fp32"."""
    new_bytes: int
    delta_bytes: int
    """Coded elements; 0 for copies, which stand in the table alone."""
    blocks: int
    modes: dict[str, int]
    """How many blocks are coded in which way."""


@dataclass(frozen=True)
class Description:
    """A delta file, described."""

    header: Header
    file_bytes: int
    overhead_bytes: int
    """Header, tables and counts: all that is not coded elements."""
    shares: tuple[Share, ...]


def describe(delta: Path) -> Description:
    """Return what a delta file holds.

    Raises IntegrityError if it is no delta or its tables are damaged; coded elements are not looked
    at. InvalidError if it is of a later version.
    """
    new_bytes: collections.Counter[str] = collections.Counter()
    coded: collections.Counter[str] = collections.Counter()
    modes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    with delta.open("rb") as stream:
        source = Source(stream)
        header = read_header(source)
        for step in sections.steps(source, header):
            name = _name(step.lane)
            if isinstance(step, Block):
                coded[name] += step.payload_bytes
                modes[name][blocks.MODES[step.mode]] += 1
            else:
                new_bytes[name] += step.length
    shares = tuple(
        Share(what, count, coded[what], modes[what].total(), dict(modes[what]))
        for what, count in sorted(new_bytes.items())
    )
    overhead = source.position - sum(coded.values())
    return Description(header, source.position, overhead, shares)


def _name(lane: Lane | None) -> str:
    if lane is None:
        return "copy"
    return f"{'change' if lane.change else 'fresh'} {lane.type.value}"
