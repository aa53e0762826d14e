"""What bytes will cost, judged by a sample: the entropy of each byte plane, no compressor run.

Planes are what runtime.bundle.delta.planes stores: first bytes of all elements, then all second
ones, and so on. Their single-byte entropy is what its coder comes close to.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.delta.longest import Bytes
from runtime.bundle.delta.plan import ElementType

FLOATS = {ElementType.FP16, ElementType.BF16, ElementType.FP32, ElementType.FP64}
SAMPLE_ELEMENTS = 1 << 14
_RUNS = 32
"""A sample is so many runs of neighbours, evenly spread."""

Words = NDArray[Any]


def fresh_bits(data: Bytes, kind: ElementType) -> float:
    """Return bits per element if these bytes are written whole."""
    values = words(sample(data, kind.width), kind.width)
    if kind in FLOATS:  # the exponent in a byte of its own
        bits = kind.width * 8
        one, rest = values.dtype.type(1), values.dtype.type(bits - 1)
        values = (values << one) | (values >> rest)
    return planes_bits(values)


def change_bits(old: Bytes, new: Bytes, kind: ElementType) -> float:
    """Return bits per element if `new` is written as a change of as many old bytes."""
    width = kind.width
    then = ordered(words(sample(old, width), width), kind)
    now = ordered(words(sample(new, width), width), kind)
    apart = (now - then).view(f"i{width}")
    shift = apart.dtype.type(width * 8 - 1)
    folded = (apart << apart.dtype.type(1)) ^ (apart >> shift)
    return planes_bits(folded.view(f"u{width}"))


def ordered(values: Words, kind: ElementType) -> Words:
    """Return numbers in the order of the values: neighbours in value are neighbours in number."""
    if kind not in FLOATS:
        return values
    sign = values.dtype.type(1 << (kind.width * 8 - 1))
    return np.where(values & sign, ~values, values | sign)


def words(data: Bytes, width: int) -> Words:
    """Return bytes as little-endian numbers without sign; the bytes need not be aligned."""
    whole = data.size // width * width
    return np.ascontiguousarray(data[:whole]).view(f"<u{width}")


def sample(data: Bytes, width: int) -> Bytes:
    """Return at most SAMPLE_ELEMENTS elements, the same places for the same size."""
    count = data.size // width
    if count <= SAMPLE_ELEMENTS:
        return data[: count * width]
    run = SAMPLE_ELEMENTS // _RUNS
    starts = np.linspace(0, count - run, _RUNS).astype(np.int64)
    return np.concatenate([data[at * width : (at + run) * width] for at in starts.tolist()])


def planes_bits(values: Words) -> float:
    """Return the bits per element of all its byte planes together."""
    if not values.size:
        return 0.0
    planes = values.view(np.uint8).reshape(-1, values.dtype.itemsize)
    return sum(entropy(planes[:, plane]) for plane in range(values.dtype.itemsize))


def entropy(data: Bytes) -> float:
    """Return the bits per byte that an ideal coder of single bytes needs.

    Few bytes seem more orderly than what they were drawn from: Miller and Madow's correction.
    """
    if not data.size:
        return 0.0
    counts = np.bincount(data, minlength=256)
    share = counts[counts > 0] / data.size
    correction = (share.size - 1) / (2 * data.size * math.log(2))
    return min(float(-(share * np.log2(share)).sum()) + correction, 8.0)
