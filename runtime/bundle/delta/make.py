"""From an old and a new file to the smallest delta file: `make` is all that others call.

    tensors found    a plan by tensors; for a file of which they are the better part, that is all
    anything else    that, and a plan by bytes, and the whole file in the light of the old one;
                     the smallest is kept

The same files and the same libraries give the same bytes, so that a device that is half-way through
a download goes on even if this was made again.
"""

import concurrent.futures
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime import digests, files
from runtime.bundle import encodings
from runtime.bundle.delta import planner, tensors, trial, write
from runtime.bundle.delta.format import Header
from runtime.bundle.delta.longest import Bytes
from runtime.bundle.delta.plan import Change, Copy, ElementType, Fresh, Segment, TensorExtent
from runtime.digests import Digest
from runtime.errors import InvalidError

AUTO = "auto"
"""Whichever is smallest; without an old file, of those that need none."""
MEMORY_BYTES = 64 << 20
"""What a device gives its decoder unless it says otherwise."""
THOROUGH_BYTES = 1 << 16
"""Up to this size a model is tried by bytes too: it costs no time to speak of."""
PREFIX_BYTES = 64 << 20
"""Up to this size a new file is tried whole, in the light of the old one."""

_TIMES = 4
_SEGMENT_BYTES = 8

Extents = Sequence[TensorExtent]


@dataclass(frozen=True)
class Summary:
    """What was made."""

    encoding: str
    delta_bytes: int
    new_bytes: int
    memory_bytes: int
    """What its decoder needs beside the interpreter and the files."""


@dataclass(frozen=True)
class _Job:
    """The files, and what is known of them."""

    new: Path
    target: Path
    old: Path | None
    new_sha256: Digest
    old_sha256: Digest | None
    memory_bytes: int


def make(
    new: Path,
    target: Path,
    *,
    old: Path | None = None,
    encoding: str = AUTO,
    new_tensors: Extents | None = None,
    old_tensors: Extents | None = None,
    memory_bytes: int = MEMORY_BYTES,
    new_sha256: Digest | None = None,
    old_sha256: Digest | None = None,
) -> Summary:
    """Durably write to `target` what makes `new` of `old`; return what it is.

    `new_tensors` and `old_tensors` say what lies in files that do not say it themselves, such as
    the external data of an ONNX file (tensors.external). Digests that the caller knows are not
    worked out again. Raises InvalidError if the encoding is not known, does not go with `old`, or
    cannot be decoded in `memory_bytes`; SpaceError if the disk is full.
    """
    if encoding not in {AUTO, *encodings.KNOWN}:
        fix = f"give {', '.join((AUTO, *encodings.KNOWN))}"
        raise InvalidError("encoding", encoding, fix)
    if encoding != AUTO and (old is not None) != (encoding in encodings.BUILDING):
        fix = f"{encoding} builds on an old file" if old is None else f"{encoding} takes none"
        raise InvalidError("old", old and str(old), fix)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        # Hashing takes a quarter of the time on one core, and leaves the other to us.
        hashed = beside.submit(digests.of_file, new) if new_sha256 is None else None
        if old is not None and old_sha256 is None:
            old_sha256 = digests.of_file(old)
        new_sha256 = new_sha256 if hashed is None else hashed.result()
    assert new_sha256 is not None
    job = _Job(new, target, old, new_sha256, old_sha256, memory_bytes)
    wanted = _Wanted(job, encoding, new_tensors, old_tensors)
    return _smallest(job, list(wanted.candidates()))


@dataclass(frozen=True)
class _Candidate:
    encoding: str
    write: Callable[[Path], Header | None]


@dataclass(frozen=True)
class _Wanted:
    """Which candidates there are."""

    job: _Job
    encoding: str
    new_tensors: Extents | None
    old_tensors: Extents | None

    def candidates(self) -> Iterator[_Candidate]:
        """Yield what is worth trying, the most promising first."""
        new = tensors.load(self.job.new)
        if self.job.old is None:
            yield from self._whole(new)
            return
        old = tensors.load(self.job.old)
        if np.array_equal(old, new):
            yield self._plan([Copy(0, new.size)] if new.size else [])
        elif self.encoding == encodings.PATCH:
            yield from self._by_bytes(old, new)
        else:
            yield from self._by_tensors(old, new)

    def _whole(self, new: Bytes) -> Iterator[_Candidate]:
        found = tensors.find(new, self.new_tensors)
        is_model = _covered(found) * 2 > new.size
        small = new.size <= PREFIX_BYTES
        if self.encoding == encodings.PLANES or (self.encoding == AUTO and (is_model or small)):
            yield self._plan(planner.fresh_plan(new, found), encodings.PLANES)
        if self.encoding in {encodings.ZSTD, AUTO}:
            yield _Candidate(encodings.ZSTD, self._zstd)

    def _by_tensors(self, old: Bytes, new: Bytes) -> Iterator[_Candidate]:
        olds, news = tensors.find_both(old, new, self.old_tensors, self.new_tensors)
        is_model = _covered(news) * 2 > new.size
        worth = is_model or not all(map(tensors.is_guess, news))
        explicit = self.encoding == encodings.TENSOR_DELTA
        plan = planner.tensor_plan(old, new, olds, news) if worth or explicit else []
        if plan:
            yield self._plan(plan)
        if not explicit and (
            not is_model or new.size <= THOROUGH_BYTES or trial.fails(plan, old, new)
        ):
            yield from self._by_bytes(old, new)

    def _by_bytes(self, old: Bytes, new: Bytes) -> Iterator[_Candidate]:
        plan = planner.byte_plan(old, new)
        yield self._plan(plan)
        if 0 < new.size <= PREFIX_BYTES and not _mostly_changed(plan, old, new):
            yield self._plan([Fresh(new.size)])

    def _plan(self, plan: list[Segment], encoding: str | None = None) -> _Candidate:
        name = encoding or (self.encoding if self.encoding != AUTO else _name(plan))

        def run(target: Path) -> Header:
            job = self.job
            return write.write(
                plan, job.new, target, encoding=name, old=job.old,
                new_sha256=job.new_sha256, old_sha256=job.old_sha256,
            )  # fmt: skip

        return _Candidate(name, run)

    def _zstd(self, target: Path) -> None:
        encodings.encode_zstd(self.job.new, target)


def _name(plan: list[Segment]) -> str:
    """Return what a plan is: by tensors only if it makes a difference."""
    numbers = any(
        isinstance(segment, Change | Fresh) and segment.type is not ElementType.BYTES
        for segment in plan
    )
    return encodings.TENSOR_DELTA if numbers else encodings.PATCH


def _mostly_changed(plan: list[Segment], old: Bytes, new: Bytes) -> bool:
    """Say if a plan's bytes go into single changed bytes: for those zstd has no means."""
    at = differ = others = 0
    for segment in plan:
        if isinstance(segment, Change):
            theirs = old[segment.old_offset : segment.old_offset + segment.length]
            differ += int(np.count_nonzero(theirs != new[at : at + segment.length]))
        elif isinstance(segment, Fresh):
            others += segment.length
        at += segment.length
    return differ > _TIMES * (others + _SEGMENT_BYTES * len(plan))


def _covered(extents: Extents) -> int:
    return sum(extent.length for extent in extents)


def _smallest(job: _Job, candidates: Sequence[_Candidate]) -> Summary:
    """Write every candidate, keep the smallest that can be decoded."""
    writer = f"{os.getpid()}-{threading.get_ident()}"
    made: list[tuple[Summary, Path]] = []
    needed = 0
    try:
        for number, candidate in enumerate(candidates):
            # Named so that what an interrupted run leaves is swept like any unfinished file.
            name = f".{job.target.name}.{number}.{writer}{files.TEMPORARY_SUFFIX}"
            path = job.target.with_name(name)
            header = candidate.write(path)
            memory = header.memory_bytes if header else encodings.MAX_WINDOW_BYTES
            size = path.stat().st_size
            summary = Summary(candidate.encoding, size, job.new.stat().st_size, memory)
            made.append((summary, path))
            needed = min(needed or memory, memory)
        fit = [each for each in made if each[0].memory_bytes <= job.memory_bytes]
        if not fit:
            fix = f"this needs {needed} bytes to decode: send the file whole"
            raise InvalidError("memory_bytes", job.memory_bytes, fix)
        best, path = min(fit, key=lambda each: each[0].delta_bytes)
        path.replace(job.target)
        files.fsync_directory(job.target.parent)
        return best
    finally:
        for _, path in made:
            path.unlink(missing_ok=True)
