"""What was counted of a candidate, as far as it survives a restart. Pure.

It goes on from there as long as the same version is measured by the same one and by the same
rules. It is written down by and by: each write wears out the flash.
"""

import msgspec
from msgspec.structs import replace

from runtime.candidates import Candidate, Counts
from runtime.digests import Digest

SHARE = 10
"""Written down when a tenth of what the gate asks for, or of what there was, has come to it."""


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counts, and of what they are."""

    by: Digest
    """The bundle of the version that it is measured by."""
    attempt: int
    candidate: Candidate
    counts: Counts = Counts()


def begin(before: Kept | None, *, by: Digest, attempt: int, candidate: Candidate) -> Kept:
    """Return what to go on from: `before`, or nothing if that is of something else."""
    fresh = Kept(by, attempt, candidate)
    if before is not None and replace(before, counts=fresh.counts) == fresh:
        return before
    return fresh


def take_over(kept: Kept, counts: Counts) -> Kept:
    """Return what to write down now that so much was counted, which may be what there was."""
    more = counts.requests - kept.counts.requests
    enough = more * SHARE >= max(kept.candidate.gate.requests, counts.requests)
    return replace(kept, counts=counts) if enough or more < 0 else kept
