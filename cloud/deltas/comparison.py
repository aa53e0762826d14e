"""Compares two bundles whose files are here: in this process, or as the child of
cloud.deltas.differ, which reads a job from stdin and writes a diff to stdout.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cloud import shapes
from cloud.deltas import diff
from cloud.deltas.costs import Measured
from cloud.deltas.diff import Side
from cloud.deltas.jobs import Job, SideJob
from cloud.deltas.sizes import Workshop
from runtime.bundle import index
from runtime.digests import Digest
from runtime.errors import PackhorseError


def compare(old: Side, new: Side, scratch: Path, *, seconds: float) -> shapes.Diff:
    """Return what lies between two bundles of which no encoding is known yet.

    Encodings are made in `scratch`, to be measured, for as many seconds; then they are estimated.
    """
    finder = Workshop({**old.places, **new.places}, scratch, seconds=seconds)
    return diff.diff(old, new, Measured({}, frozenset(), finder))


def run(job: Job) -> shapes.Diff:
    """Do what a job says."""
    places = {blob: Path(place) for blob, place in job.places.items()}
    finder = Workshop(places, Path(job.scratch), seconds=job.seconds)
    known = Measured(job.known, frozenset(job.useless), finder)
    return diff.diff(_side(job.old, places), _side(job.new, places), known)


def _side(job: SideJob, places: Mapping[Digest, Path]) -> Side:
    return Side(job.label, job.bundle, index.decode(job.index.encode()), places)


def main() -> int:
    """Compare; return the exit code."""
    try:
        found = run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))
    except (PackhorseError, OSError, MemoryError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write(found.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
