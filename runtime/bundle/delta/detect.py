"""Numbers in bytes that nobody described: weights in an external-data file, say.

The low bytes of weights are noise and the high ones are not: so of every fourth byte (second,
eighth) one lane is far from noise, while text and machine code look alike in every lane. Where a
64 KiB block does so, and zstd agrees that splitting it into lanes pays, it is taken for numbers.
"""

from collections.abc import Iterator

import numpy as np
import zstandard

from runtime.bundle.delta.estimate import entropy
from runtime.bundle.delta.longest import Bytes
from runtime.bundle.delta.plan import ElementType, TensorExtent

BLOCK_BYTES = 1 << 16
WIDTHS = {2: ElementType.FP16, 4: ElementType.FP32, 8: ElementType.FP64}
"""FP16 stands for bfloat16 too: the two are ordered alike, bit by bit."""
_SAMPLE_BYTES = 1 << 14
_GAIN_BITS = 0.05
"""Per byte, before it is worth asking zstd."""
_SAME_BITS = 0.06
"""Closer than this, two widths cannot be told apart, and the smaller one is meant."""
_PAYS = 0.98


def name(offset: int) -> str:
    """Return how a tensor is called of which only the place is known."""
    return f"@{offset}"


def element_type(data: Bytes) -> ElementType:
    """Return what these bytes most likely are."""
    return WIDTHS.get(_lanes_pay(_middle(data)), ElementType.BYTES)


def extents(data: Bytes, start: int = 0, end: int | None = None) -> tuple[TensorExtent, ...]:
    """Return runs of numbers in a range of a file, as tensors without a shape or a true name."""
    end = data.size if end is None else end
    return tuple(_runs(data, start, end))


def _runs(data: Bytes, start: int, end: int) -> Iterator[TensorExtent]:
    width, begin = 0, start
    for at in range(start, end, BLOCK_BYTES):
        block = data[at : min(at + BLOCK_BYTES, end)]
        found = _lanes_pay(_middle(block))
        if found != width:
            yield from _run(data, begin, at, width)
            width, begin = found, at
    yield from _run(data, begin, end, width)


def _run(data: Bytes, start: int, end: int, width: int) -> Iterator[TensorExtent]:
    """Yield one run, from the first whole element on."""
    if width == 0 or end - start < BLOCK_BYTES:
        return
    start += _phase(data[start : start + BLOCK_BYTES], width)
    length = (end - start) // width * width
    yield TensorExtent(name(start), WIDTHS[width], (length // width,), start, length)


def _middle(block: Bytes) -> Bytes:
    """Return a sample of a block that begins at a multiple of 8 within it."""
    if block.size <= _SAMPLE_BYTES:
        return block
    skip = (block.size - _SAMPLE_BYTES) // 16 * 8
    return block[skip : skip + _SAMPLE_BYTES]


def _lanes_pay(block: Bytes) -> int:
    """Return the width of the numbers in a block; 0 if it is not made of numbers."""
    size = block.size // 8 * 8
    if size < 8 * 256:
        return 0
    lanes = block[:size].reshape(-1, 8)
    whole = entropy(block)
    cost = {w: _mean(lanes.reshape(-1, w)) for w in sorted(WIDTHS)}
    best = min(width for width in cost if cost[width] < min(cost.values()) + _SAME_BITS)
    if whole - cost[best] < _GAIN_BITS:
        return 0
    compressor = zstandard.ZstdCompressor(level=3)
    plain = len(compressor.compress(block.tobytes()))
    split = sum(len(compressor.compress(lane.tobytes())) for lane in lanes.reshape(-1, best).T)
    return best if split < plain * _PAYS else 0


def _mean(lanes: Bytes) -> float:
    width = int(lanes.shape[1])
    return sum(entropy(lanes[:, lane]) for lane in range(width)) / width


def _phase(block: Bytes, width: int) -> int:
    """Return where the first whole element begins: behind the lane that is least like noise."""
    lanes = block[: block.size // width * width].reshape(-1, width)
    costs = [entropy(lanes[:, lane]) for lane in range(width)]
    return (int(np.argmin(costs)) + 1) % width
