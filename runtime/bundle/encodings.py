"""How a blob travels: encoded, then cut into parts.

    zstd            whole
    planes          whole; float tensors split into byte planes
    patch           for a receiver that holds an older blob: copies, small changes, new bytes
    tensor-delta    the same, with tensors subtracted weight by weight

Decoding runs on the device: in bounded memory, and never writing more than was promised. Encoding
runs in the cloud, once per blob and encoding; cloud.storage.encodings keeps its results.
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
KNOWN = (ZSTD,)
"""What this version can encode."""
DECODABLE = (ZSTD,)
"""What this version can decode, best first."""

_LEVEL = 10
MAX_WINDOW_BYTES = 8 << 20
"""What a decoder needs beside its buffers; no encoder may use more."""


def encode(encoding: str, source: Path, target: Path, *, base: Path | None = None) -> None:
    """Durably write `source`, encoded, to `target`: the same bytes every time.

    `base` is the older blob for encodings that build on one. Raises InvalidError if the encoding
    is not known, SpaceError if the disk is full.
    """
    if encoding != ZSTD or base is not None:
        raise InvalidError("encoding", encoding, f"this version writes {', '.join(KNOWN)}")
    encode_zstd(source, target)


def encode_zstd(source: Path, target: Path) -> None:
    """Durably write `source`, compressed, to `target`: the same bytes every time.

    A device that is half-way through a download goes on even if this was made again.
    """
    size = source.stat().st_size
    compressor = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            _LEVEL, source_size=size, write_checksum=True
        )
    )
    with source.open("rb") as plain, files.replacing(target) as encoded:
        compressor.copy_stream(plain, encoded, size=size)


def decode(encoding: str, encoded: Path, target: BlobStore, *, size: int, sha256: Digest) -> None:
    """Durably store what an encoded file unfolds to.

    Raises IntegrityError, and leaves nothing, if that is more than `size` bytes or has another
    digest; InvalidError if the encoding is not known; SpaceError if the disk is full.
    """
    if encoding != ZSTD:
        raise InvalidError("encoding", encoding, f"this version reads {', '.join(DECODABLE)}")
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    try:
        with encoded.open("rb") as file, decompressor.stream_reader(file) as plain:
            target.put_stream(sha256, plain, limit_bytes=size)
    except zstandard.ZstdError as error:
        raise IntegrityError(f"blob {sha256}", wanted="a zstd stream", got=str(error)) from error
