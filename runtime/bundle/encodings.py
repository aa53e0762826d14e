"""How a blob travels: encoded, then cut into parts.

    zstd            whole
    planes          whole; float tensors split into byte planes
    patch           for a receiver that holds an older blob: copies, small changes, new bytes
    tensor-delta    the same, with tensors subtracted weight by weight

All but zstd are delta files (runtime.bundle.delta, docs/specs/delta.md). Decoding runs on the
device: in bounded memory, and never writing more than was promised. Encoding runs in the cloud,
once per blob and encoding; cloud.storage.encodings keeps its results.

Delta files need numpy, which the agent's supervisor must not import. So they are imported when they
are used, and the supervisor runs runtime.bundle.unpack in a child.
"""

from pathlib import Path

import zstandard

from runtime import files
from runtime.bundle.blobs import BlobStore
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

ZSTD = "zstd"
PLANES = "planes"
PATCH = "patch"
TENSOR_DELTA = "tensor-delta"
KNOWN = (TENSOR_DELTA, PATCH, PLANES, ZSTD)
"""What this version can encode."""
DECODABLE = KNOWN
"""What this version can decode, best first."""
BUILDING = frozenset({TENSOR_DELTA, PATCH})
"""Encodings that build on an older blob."""

_LEVEL = 10
MAX_WINDOW_BYTES = 8 << 20
"""What a decoder needs beside its buffers; no encoder may use more."""


def encode(encoding: str, source: Path, target: Path, *, base: Path | None = None) -> None:
    """Durably write `source`, encoded, to `target`: the same bytes every time.

    `base` is the older blob, for encodings in BUILDING and no other. Raises InvalidError if the
    encoding is not known, or a base is missing or too many; SpaceError if the disk is full.
    """
    if encoding not in KNOWN:
        raise InvalidError("encoding", encoding, f"this version writes {', '.join(KNOWN)}")
    if (base is not None) != (encoding in BUILDING):
        fix = f"{encoding} builds on an older blob" if base is None else f"{encoding} needs none"
        raise InvalidError("base", base and str(base), fix)
    if encoding == ZSTD:
        encode_zstd(source, target)
        return
    from runtime.bundle.delta import make  # noqa: PLC0415 - imports numpy

    make.make(source, target, old=base, encoding=encoding)


def encode_zstd(source: Path, target: Path) -> None:
    """Durably write `source`, compressed, to `target`: the same bytes every time.

    A device that is half-way through a download goes on even if this was made again. Raises
    SpaceError if the disk is full.
    """
    size = source.stat().st_size
    compressor = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            _LEVEL, source_size=size, write_checksum=True
        )
    )
    with (
        files.explaining_full_disk(target, size),
        source.open("rb") as plain,
        files.replacing(target) as encoded,
    ):
        compressor.copy_stream(plain, encoded, size=size)


def decode(
    encoding: str,
    encoded: Path,
    target: BlobStore,
    *,
    size: int,
    sha256: Digest,
    base: Path | None = None,
) -> None:
    """Durably store what an encoded file unfolds to; `base` is the blob that it builds on.

    Raises IntegrityError, and leaves nothing, if that is more than `size` bytes or has another
    digest, or if `base` is another file; InvalidError if the encoding is not known or needs what
    is not given; SpaceError if the disk is full.
    """
    if encoding == ZSTD:
        _decode_zstd(encoded, target, size=size, sha256=sha256)
        return
    if encoding not in DECODABLE:
        raise InvalidError("encoding", encoding, f"this version reads {', '.join(DECODABLE)}")
    from runtime.bundle.delta import apply  # noqa: PLC0415 - imports numpy

    limits = apply.Limits(size_bytes=size)
    with encoded.open("rb") as file, apply.Decoder(file, base, limits) as decoder:
        promised = (encoding, sha256)
        found = (decoder.header.encoding, decoder.header.sha256)
        if found != promised:
            raise IntegrityError(f"blob {sha256}", wanted=str(promised), got=str(found))
        target.put_stream(sha256, decoder, limit_bytes=size)


def _decode_zstd(encoded: Path, target: BlobStore, *, size: int, sha256: Digest) -> None:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    try:
        with encoded.open("rb") as file, decompressor.stream_reader(file) as plain:
            target.put_stream(sha256, plain, limit_bytes=size)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"blob {sha256}", wanted="a zstd stream", got=str(error)) from error
