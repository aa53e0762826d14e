"""The last step of coding: bytes to fewer bytes, by whichever means makes them fewest.

    number = encoded length * 8 + method, then so many bytes     RAW and CONSTANT: no length

A stream does not say how many bytes it unfolds to: its reader knows that already, so a stream can
never unfold to more.
"""

import bz2
import enum
import lzma
from typing import Any, Final

import numpy.typing as npt
import zstandard

from runtime.bundle.delta.format import Cursor, damaged, varint

Array = npt.NDArray[Any]

RAW: Final = 0
CONSTANT: Final = 1
ZSTD: Final = 2
LZMA: Final = 3
BZ2: Final = 4

_METHOD_BITS: Final = 3
_SAMPLE_BYTES: Final = 1 << 14
_WINDOW_LOG_MIN: Final = 10
WINDOW_LOG_MAX: Final = 25
"""Block and prefix together: what a zstd stream may look back over."""
_EXTREME_BYTES: Final = 1 << 20
_WORTH_IT: Final = 0.995
"""Slower to unfold than zstd, so bz2 and lzma must save more than this."""
_MATCHES_HELP: Final = 0.95
"""A sample must shrink to less than this by looking for repeats before all of it is searched."""
_WITHOUT_MATCHES: Final = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST,
    min_match=7,
    hash_log=6,
    chain_log=6,
    search_log=1,
    target_length=0,
    window_log=20,
    format=zstandard.FORMAT_ZSTD1_MAGICLESS,
)
"""zstd as a coder of single bytes.

In skewed but random bytes the usual parameters find short repeats by chance, each of which costs
more than it saves: 10 to 20 % in all.
"""


class Effort(enum.Enum):
    """How much time a stream is worth."""

    QUICK = "quick"
    """Skewed but without repeats; about 1 GB/s."""
    SEARCH = "search"
    """The same, but looks whether there are repeats."""
    HARD = "hard"
    """Everything else: tries every method; a few MB/s."""


def pack(data: bytes | Array, effort: Effort) -> bytes:
    """Return a stream that unfolds to `data`; nothing for nothing."""
    plain = data if isinstance(data, bytes) else data.tobytes()
    if not plain:
        return b""
    if plain[0] == plain[-1] and plain.count(plain[:1]) == len(plain):
        return bytes((CONSTANT, plain[0]))
    method, coded = _hard(plain) if effort is Effort.HARD else (ZSTD, _quick(plain, effort))
    if len(coded) + 3 >= len(plain):
        return bytes((RAW,)) + plain
    return varint(len(coded) << _METHOD_BITS | method) + coded


def _quick(plain: bytes, effort: Effort) -> bytes:
    literals = zstandard.ZstdCompressor(compression_params=_WITHOUT_MATCHES)
    best = literals.compress(plain)
    if effort is Effort.SEARCH:
        sample = plain[len(plain) // 2 :][:_SAMPLE_BYTES]
        if len(zstd_frame(sample, level=3)) < _MATCHES_HELP * len(literals.compress(sample)):
            best = min(best, zstd_frame(plain, level=12), key=len)
    return best


def _hard(plain: bytes) -> tuple[int, bytes]:
    quick = zstd_frame(plain, level=3)
    if len(plain) > _SAMPLE_BYTES and len(quick) > _WORTH_IT * len(plain):
        return ZSTD, quick
    best = ZSTD, zstd_frame(plain, level=19)
    others = ((BZ2, bz2.compress(plain)), (LZMA, _lzma(plain)))
    method, coded = min(others, key=lambda other: len(other[1]))
    return (method, coded) if len(coded) < _WORTH_IT * len(best[1]) else best


def zstd_frame(
    plain: bytes | memoryview, *, level: int, prefix: zstandard.ZstdCompressionDict | None = None
) -> bytes:
    """Return a zstd frame without magic number or checksum.

    It says its size, for without one the decoder would take a window's memory beside its output's.
    """
    reach = len(plain) + (len(prefix) if prefix is not None else 0)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=len(plain),
        dict_size=len(prefix) if prefix is not None else 0,
        window_log=min(max(reach.bit_length(), _WINDOW_LOG_MIN), WINDOW_LOG_MAX),
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=prefix)
    return compressor.compress(plain)


def _lzma(plain: bytes) -> bytes:
    preset = 9 | lzma.PRESET_EXTREME if len(plain) <= _EXTREME_BYTES else 6
    filters = [{**_lzma_filter(len(plain)), "preset": preset}]
    return lzma.compress(plain, format=lzma.FORMAT_RAW, filters=filters)


def _lzma_filter(size: int) -> dict[str, Any]:
    """Return the filter for `size` bytes: its dictionary is part of the format."""
    dictionary = max(lzma_dictionary_bytes(size), 4096)
    return {"id": lzma.FILTER_LZMA2, "dict_size": dictionary, "lc": 3, "lp": 0, "pb": 2}


def lzma_dictionary_bytes(size: int) -> int:
    """Return the dictionary for `size` bytes: the next power of two."""
    return 1 << max(size - 1, 0).bit_length()


def unpack(cursor: Cursor, size: int) -> bytes:
    """Return the `size` bytes that the next stream unfolds to.

    Raises IntegrityError if it unfolds to more or fewer, or is damaged.
    """
    if size == 0:
        return b""
    number = cursor.varint()
    method, length = number & ((1 << _METHOD_BITS) - 1), number >> _METHOD_BITS
    if method == RAW:
        return bytes(cursor.take(size))
    if method == CONSTANT:
        return bytes(cursor.take(1)) * size
    coded = cursor.take(length)
    if method == ZSTD:
        return unpack_zstd(coded, size)
    if method == LZMA:
        return _unpack_with(
            lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_lzma_filter(size)]), coded, size
        )
    if method == BZ2:
        return _unpack_with(bz2.BZ2Decompressor(), coded, size)
    raise damaged("a known method", f"number {method}")


def unpack_zstd(
    coded: memoryview, size: int, prefix: zstandard.ZstdCompressionDict | None = None
) -> bytes:
    """Return the `size` bytes of one frame; raise IntegrityError if it has more, fewer, or none."""
    try:
        found = zstandard.get_frame_parameters(coded, zstandard.FORMAT_ZSTD1_MAGICLESS)
        if found.content_size != size:
            # The library would believe it, and take that much memory.
            raise damaged(f"{size} bytes", f"a frame that says {found.content_size}")
        plain = zstandard.ZstdDecompressor(
            format=zstandard.FORMAT_ZSTD1_MAGICLESS, dict_data=prefix
        ).decompress(coded, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise damaged(f"a zstd frame of {size} bytes", error) from error
    if len(plain) != size:
        raise damaged(f"{size} bytes", f"a frame of {len(plain)}")
    return plain


def _unpack_with(
    decompressor: lzma.LZMADecompressor | bz2.BZ2Decompressor, coded: memoryview, size: int
) -> bytes:
    try:
        plain = decompressor.decompress(bytes(coded), max_length=size)
        if not decompressor.eof:
            # The end mark may still be unread once all bytes are out.
            plain += decompressor.decompress(b"", max_length=1)
    except (lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise damaged(f"a stream of {size} bytes", error) from error
    if len(plain) != size or not decompressor.eof or decompressor.unused_data:
        raise damaged(f"a stream of {size} bytes", f"{len(plain)} and more to come, or fewer")
    return plain
