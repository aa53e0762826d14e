"""How long an encoding is: made, in a directory that is thrown away; or estimated, where the blob
is large or the time is over.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import zstandard

from cloud.deltas import policy
from cloud.deltas.costs import Size
from runtime import files
from runtime.bundle import encodings
from runtime.bundle.delta import estimate, make, match, tensors
from runtime.bundle.delta.longest import Bytes
from runtime.bundle.delta.match import Matcher, Pair
from runtime.digests import Digest
from runtime.errors import InvalidError

EXACT_BYTES: Final = 64 << 20
"""Encodings of larger blobs are estimated: making one takes seconds."""
_LEVEL: Final = 10
_RUNS, _RUN_BYTES = 16, 1 << 18
"""What is compressed to estimate how well the rest will."""

_Key = tuple[Digest, str, Digest | None]


class Workshop:
    """Makes each encoding once, or estimates it; see cloud.deltas.costs.Finder."""

    def __init__(self, places: Mapping[Digest, Path], scratch: Path, *, seconds: float) -> None:
        """`places` says where blobs lie. After `seconds` no more encodings are made."""
        self._places, self._scratch = places, scratch
        self._until = time.monotonic() + seconds
        self._found: dict[_Key, Size | None] = {}

    def __call__(self, blob: Digest, encoding: str, base: Digest | None) -> Size | None:
        """Return how long an encoding is; with a base, the smallest that builds on it."""
        key = (blob, encoding, base)
        if key not in self._found:
            self._found[key] = self._find(blob, encoding, base)
        return self._found[key]

    def _find(self, blob: Digest, encoding: str, base: Digest | None) -> Size | None:
        new, old = self._places[blob], self._places[base] if base else None
        size = new.stat().st_size
        if encoding == encodings.PLANES and size < policy.LEAST_BYTES:
            return None  # nobody makes it
        largest = max(size, old.stat().st_size if old else 0)
        if largest > EXACT_BYTES or time.monotonic() > self._until:
            count = estimated(new, encoding, old)
            return Size(encoding, base, count, 0, estimated=True)
        target = self._scratch / blob
        try:
            wish = make.AUTO if old else encoding
            made = make.make(new, target, old=old, encoding=wish, new_sha256=blob, old_sha256=base)
        except InvalidError:  # no device could decode it: the registry does not keep it either
            return None
        finally:
            files.remove(target)
        return Size(made.encoding, base, made.delta_bytes, made.memory_bytes)


def estimated(new: Path, encoding: str, old: Path | None = None) -> int:
    """Return about how many bytes an encoding has, by samples."""
    data = tensors.load(new)
    ratio = _ratio(data)
    if encoding == encodings.ZSTD:
        return round(ratio * data.size)
    then = tensors.load(old) if old else data[:0]
    olds, news = tensors.find_both(then, data)
    matcher = Matcher(then, data, olds)
    rest, bits = float(data.size), 0.0
    for extent in news:
        rest -= extent.length
        pair = matcher.pair(extent) if olds else None
        whole = estimate.fresh_bits(match.content(data, extent), extent.type)
        length = pair.length if pair else 0
        bits += whole * (extent.length - length) / extent.type.width
        bits += _change_bits(pair, then, data) if pair else 0.0
    return round(ratio * rest + bits / 8)


def _change_bits(pair: Pair, old: Bytes, new: Bytes) -> float:
    """Return the bits of what a tensor has in common with an old one."""
    kind = pair.new.type
    now = match.content(new, pair.new)[pair.at :][: pair.length]
    then = match.content(old, pair.old)[pair.old_at :][: pair.length]
    if (now == then).all():
        return 0.0
    return estimate.change_bits(then, now, kind) * pair.length / kind.width


def _ratio(data: Bytes) -> float:
    """Return to what share of itself zstd compresses a file."""
    if not data.size:
        return 1.0
    step = max(_RUN_BYTES, data.size // _RUNS)
    runs = [data[at : at + _RUN_BYTES].tobytes() for at in range(0, data.size, step)][:_RUNS]
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    return min(1.0, sum(len(compressor.compress(run)) for run in runs) / sum(map(len, runs)))
