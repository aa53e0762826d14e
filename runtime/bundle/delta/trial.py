"""Is it right to subtract these weights? A trial on samples, against what zstd makes of them.

Pruned weights, say, are the old ones or zero: subtracting them costs more than saying which.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import zstandard

from runtime.bundle.delta import planes, residual
from runtime.bundle.delta.longest import Bytes
from runtime.bundle.delta.plan import Change, ElementType, Segment

SAMPLES = 2
SAMPLE_BYTES = 1 << 15
_CLEARLY = 0.9
_LEVEL = 19
_OVERHEAD_BYTES = 16
"""Of a frame of its own."""


def fails(plan: Sequence[Segment], old: Bytes, new: Bytes) -> bool:
    """Say if zstd, given the old bytes, needs clearly fewer for samples of the changed numbers."""
    subtracted = compressed = 0
    for change, start in _samples(plan):
        mine = np.ascontiguousarray(new[start : start + change.length])
        theirs = np.ascontiguousarray(old[change.old_offset : change.old_offset + change.length])
        now, then = (planes.bits(data, change.type) for data in (mine, theirs))
        subtracted += len(residual.encode(now, then, change.type))
        prefix = zstandard.ZstdCompressionDict(
            theirs.tobytes(), dict_type=zstandard.DICT_TYPE_RAWCONTENT
        )
        compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=prefix)
        compressed += len(compressor.compress(mine.tobytes())) - _OVERHEAD_BYTES
    return compressed < _CLEARLY * subtracted


def _samples(plan: Sequence[Segment]) -> Iterator[tuple[Change, int]]:
    """Yield evenly spread parts of the changed numbers, and where they lie in the new file."""
    starts = np.cumsum([0, *(segment.length for segment in plan)])
    changes = [
        (segment, int(start))
        for segment, start in zip(plan, starts[:-1].tolist(), strict=True)
        if isinstance(segment, Change) and segment.type is not ElementType.BYTES
    ]
    ends = np.cumsum([segment.length for segment, _ in changes])
    for number in range(SAMPLES if changes else 0):
        at = int(ends[-1]) * (2 * number + 1) // (2 * SAMPLES)
        index = int(np.searchsorted(ends, at, side="right"))
        segment, start = changes[index]
        width = segment.type.width
        inside = at - (int(ends[index]) - segment.length)
        first = min(inside, max(0, segment.length - SAMPLE_BYTES)) // width * width
        length = min(SAMPLE_BYTES, segment.length - first)
        yield Change(segment.old_offset + first, length, segment.type), start + first
