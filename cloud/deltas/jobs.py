"""What the child that compares two versions is told: see cloud.deltas.differ."""

import msgspec

from cloud.deltas.costs import Size
from runtime.digests import Digest


class SideJob(msgspec.Struct, frozen=True):
    """One of the two bundles, for the child."""

    label: str
    bundle: Digest
    index: str
    """Its JSON."""


class Job(msgspec.Struct, frozen=True):
    """What the child is to do."""

    old: SideJob
    new: SideJob
    places: dict[Digest, str]
    """Where the blobs of both lie."""
    known: dict[Digest, list[Size]]
    useless: list[tuple[Digest, str]]
    """As in cloud.deltas.costs.Measured."""
    scratch: str
    seconds: float
    """So long, encodings are made; then they are estimated."""
