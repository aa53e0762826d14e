"""One block: some elements of one lane, coded together by whichever mode makes them smallest.

A lane is all segments of one table that are coded alike: Change or Fresh, of one element type.

    PLAIN        the bytes, as one stream
    SPLIT        numbers: byte planes                                 runtime.bundle.delta.planes
    RESIDUAL     numbers: what they differ by from the old ones       runtime.bundle.delta.residual
    DIFFERENCE   bytes: new minus old ones, as one stream
    PREFIX       bytes: a zstd frame that looks back into a range of the old file
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import zstandard

from runtime.bundle.delta import planes, residual, streams
from runtime.bundle.delta.format import MAX_PREFIX_BYTES, Cursor, damaged, varint
from runtime.bundle.delta.plan import ElementType
from runtime.bundle.delta.streams import Array, Effort

PLAIN: Final = 0
SPLIT: Final = 1
RESIDUAL: Final = 2
DIFFERENCE: Final = 3
PREFIX: Final = 4
MODES: Final = ("plain", "split", "residual", "difference", "prefix")

_OF_BYTES: Final = frozenset({PLAIN, DIFFERENCE, PREFIX})
_OF_NUMBERS: Final = frozenset({PLAIN, SPLIT, RESIDUAL})
_OF_CHANGES: Final = frozenset({RESIDUAL, DIFFERENCE})
"""Modes by the lanes that they fit: working_bytes counts no other."""

_SAMPLE_BYTES: Final = 1 << 15
_TRY_ALL_BYTES: Final = 1 << 13
_NEAR: Final = 1.1
"""What a quick trial finds within this of the best is tried in earnest."""
_PREFIX_TIMES: Final = 64
_PREFIX_LEAST: Final = 1 << 15
_UNLIKE_BITS: Final = {
    ElementType.FP16: 9, ElementType.BF16: 6, ElementType.FP32: 22, ElementType.FP64: 51,
    ElementType.INT8: 5, ElementType.INT16: 4, ElementType.INT32: 4, ElementType.INT64: 4,
}  # fmt: skip
"""Residuals of so many bits may cost more than the elements themselves."""


@dataclass(frozen=True)
class Lane:
    """Segments that are coded together."""

    change: bool
    type: ElementType


@dataclass(frozen=True)
class Prefix:
    """A range of the old file that a block may look back into."""

    offset: int
    data: Array


def prefix_bytes(block_bytes: int) -> int:
    """Return how much of the old file is worth searching for a block of this size."""
    return min(MAX_PREFIX_BYTES, max(_PREFIX_LEAST, _PREFIX_TIMES * block_bytes))


def working_bytes(lane: Lane, count: int, *, payload: int, prefix: int) -> int:
    """Return what decoding a block of `count` elements takes, beside what it unfolds to."""
    old = count * lane.type.width if lane.change else 0
    if lane.type is ElementType.BYTES:
        # The prefix as read and as the library keeps it; or lzma's dictionary and its input again.
        by_lzma = streams.lzma_dictionary_bytes(count) + payload
        return payload + max(2 * prefix, by_lzma + 2 * old)
    return payload + old + count * (4 * lane.type.width + 12)


def encode(new: Array, old: Array | None, kind: ElementType, prefix: Prefix | None) -> bytes:
    """Return mode and body for these bytes; `old` are those that they changed from, if any."""
    if kind is ElementType.BYTES:
        return _encode_bytes(new, old, prefix)
    made = []
    values = planes.bits(new, kind)
    if old is None or _unlike(values, planes.bits(old, kind), kind):
        made += _encode_fresh(new, values, kind)
    if old is not None:
        made.append(bytes((RESIDUAL,)) + residual.encode(values, planes.bits(old, kind), kind))
    return min(made, key=len)


def _unlike(new: Array, old: Array, kind: ElementType) -> bool:
    if new.nbytes <= _TRY_ALL_BYTES:
        return True
    step = max(1, len(new) // (_SAMPLE_BYTES // kind.width))
    median = residual.median(new[::step], old[::step], kind)
    return median >> _UNLIKE_BITS[kind] > 0


def _encode_fresh(new: Array, values: Array, kind: ElementType) -> list[bytes]:
    made = []
    if kind.width > 1:
        made.append(bytes((SPLIT,)) + planes.encode(values, kind))
        start = (len(values) // 2) * kind.width
        sample = new[start : start + _SAMPLE_BYTES]
        split = planes.encode(planes.bits(sample, kind), kind)
        if new.nbytes > _TRY_ALL_BYTES and len(split) <= len(streams.pack(sample, Effort.SEARCH)):
            return made
    return [*made, bytes((PLAIN,)) + streams.pack(new, Effort.SEARCH)]


def _encode_bytes(new: Array, old: Array | None, prefix: Prefix | None) -> bytes:
    """Try every mode quickly, and those that come near the best in earnest."""
    plain = new.tobytes()
    trials: list[tuple[int, Callable[[], bytes]]] = [
        (len(streams.zstd_frame(plain, level=3)), functools.partial(_stream, PLAIN, plain))
    ]
    if old is not None:
        difference = (new - old).tobytes()
        size = len(streams.zstd_frame(difference, level=3))
        trials.append((size, functools.partial(_stream, DIFFERENCE, difference)))
    if prefix is not None and len(prefix.data):
        held = _dictionary(prefix.data)
        size = len(streams.zstd_frame(plain, level=3, prefix=held))
        trials.append((size, functools.partial(_encode_prefix, plain, prefix, held)))
    best = min(size for size, _ in trials)
    return min((make() for size, make in trials if size <= best * _NEAR + 16), key=len)


def _stream(mode: int, data: bytes) -> bytes:
    return bytes((mode,)) + streams.pack(data, Effort.HARD)


def _encode_prefix(plain: bytes, prefix: Prefix, held: zstandard.ZstdCompressionDict) -> bytes:
    head = bytes((PREFIX,)) + varint(prefix.offset) + varint(len(prefix.data))
    return head + streams.zstd_frame(plain, level=19, prefix=held)


def _dictionary(data: bytearray | Array) -> zstandard.ZstdCompressionDict:
    raw = data if isinstance(data, bytearray) else data.tobytes()
    return zstandard.ZstdCompressionDict(raw, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def read_prefix(payload: Cursor, lane: Lane) -> tuple[int, tuple[int, int]]:
    """Return a block's mode, and offset and length of its prefix: zeros for other modes.

    Raises IntegrityError if the mode is not known or does not fit the lane, or the prefix is empty
    or too long.
    """
    mode = payload.byte()
    if mode >= len(MODES):
        raise damaged("a known mode", f"number {mode}")
    fitting = _OF_BYTES if lane.type is ElementType.BYTES else _OF_NUMBERS
    if mode not in fitting or (mode in _OF_CHANGES and not lane.change):
        raise damaged("a mode that fits its lane", MODES[mode])
    if mode != PREFIX:
        return mode, (0, 0)
    offset, length = payload.varint(), payload.varint()
    if not 0 < length <= MAX_PREFIX_BYTES:
        raise damaged(f"a prefix of at most {MAX_PREFIX_BYTES} bytes", length)
    return mode, (offset, length)


def decode(payload: Cursor, mode: int, lane: Lane, count: int, old: bytearray) -> Array:
    """Return the bytes of a block's `count` elements.

    `old` are the bytes that they changed from, or the prefix, and may be emptied; `mode` fits the
    lane, as read_prefix has seen. Raises IntegrityError if the block is damaged or has bytes left
    over.
    """
    kind = lane.type
    if mode == PLAIN:
        made = np.frombuffer(streams.unpack(payload, count * kind.width), np.uint8)
    elif mode == SPLIT:
        made = planes.decode(payload, count, kind).view(np.uint8)
    elif mode == RESIDUAL:
        before = planes.bits(np.frombuffer(old, np.uint8), kind)
        made = residual.decode(payload, before, kind).view(np.uint8)
    elif mode == DIFFERENCE:
        difference = np.frombuffer(streams.unpack(payload, count * kind.width), np.uint8)
        made = np.frombuffer(old, np.uint8) + difference
    else:
        held = _dictionary(old)
        old.clear()  # the library has its own copy
        plain = streams.unpack_zstd(payload.rest(), count * kind.width, held)
        made = np.frombuffer(plain, np.uint8)
    payload.finish()
    return made
