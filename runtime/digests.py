"""SHA-256 digests: the names of blobs and bundles."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NewType

from runtime.errors import InvalidError

Digest = NewType("Digest", str)
"""64 lower-case hexadecimal digits: the SHA-256 of the bytes it names."""

_PATTERN = re.compile(r"[0-9a-f]{64}")
CHUNK_BYTES = 1 << 20


def parse(text: object, field: str = "digest") -> Digest:
    """Return `text` as a digest; raise InvalidError if it is none."""
    if not isinstance(text, str) or not _PATTERN.fullmatch(text):
        raise InvalidError(field, text, "give a SHA-256 as 64 lower-case hexadecimal digits")
    return Digest(text)


def of_bytes(data: bytes | bytearray | memoryview) -> Digest:
    """Return the digest of these bytes."""
    return Digest(hashlib.sha256(data).hexdigest())


def of_file(path: Path) -> Digest:
    """Return the digest of a file's content, read in bounded memory."""
    with path.open("rb") as file:
        return of_stream(file)


def of_stream(stream: BinaryIO) -> Digest:
    """Return the digest of what is left in a stream."""
    sha256 = hashlib.sha256()
    for chunk in chunks(stream):
        sha256.update(chunk)
    return Digest(sha256.hexdigest())


def chunks(stream: BinaryIO, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield what is left in a stream, at most `size` bytes at a time."""
    while chunk := stream.read(size):
        yield chunk
