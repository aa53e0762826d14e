"""Deltas between plain files, without a registry: what `packhorse delta` does.

Read are delta files (docs/specs/delta.md) and zstd frames that tell how much they unfold to.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import zstandard

from runtime import digests, files
from runtime.bundle import encodings
from runtime.bundle.delta import apply as applying
from runtime.bundle.delta import make as making
from runtime.bundle.delta import show as showing
from runtime.bundle.delta.format import MAGIC, Base, Source, read_header
from runtime.bundle.delta.show import Share
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

Advance = Callable[[int], None]

ENCODINGS: Final = {
    "auto": making.AUTO,
    "zstd": encodings.ZSTD,
    "planes": encodings.PLANES,
    "patch": encodings.PATCH,
    "tensor": encodings.TENSOR_DELTA,
}
"""What a person may ask for, and what it is called in files."""
MAX_WINDOW_BYTES: Final = 128 << 20
"""What a zstd frame of somebody else may need; ours need less."""
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_HEADER_BYTES: Final = 18
_PIECE_BYTES: Final = 1 << 20
_CODED_BYTES: Final = 4096
"""Of a zstd frame at a time: the worst of them unfold to 128 MiB."""


@dataclass(frozen=True)
class Facts:
    """What a file says of itself, and what it was made from."""

    encoding: str
    file_bytes: int
    old: Base | None
    """None: it needs no old file."""
    new_bytes: int
    new_sha256: Digest | None
    """None: a zstd frame, which only has a short checksum."""
    memory_bytes: int
    """What decoding it takes beside the decoder itself."""


@dataclass(frozen=True)
class Shown:
    """A file, described."""

    facts: Facts
    overhead_bytes: int
    """Of a delta file: all that is not coded elements."""
    shares: tuple[Share, ...]


def make(old: Path, new: Path, target: Path, *, encoding: str) -> Facts:
    """Durably write to `target` what makes `new` of `old`; return what it is.

    `encoding` is one of the keys of ENCODINGS; zstd and planes do not look at `old`. Raises
    InvalidError for anything that is not acceptable, SpaceError if the disk is full.
    """
    require_file(new, "NEW")
    name = ENCODINGS[encoding]
    builds = name not in {encodings.ZSTD, encodings.PLANES}
    if builds:
        require_file(old, "OLD")
    for field, path in (("OLD", old), ("NEW", new)):
        if target.exists() and path.exists() and target.samefile(path):
            raise InvalidError("--output", str(target), f"it is {field} itself: name another file")
    with files.explaining_full_disk(target, new.stat().st_size):
        making.make(new, target, old=old if builds else None, encoding=name)
    target.chmod(_usual_mode())
    return facts(target)


def apply(old: Path, delta: Path, target: Path, found: Facts, *, advance: Advance) -> None:
    """Durably write to `target` what a file makes of `old`; `found` are the file's facts.

    `advance` is told of bytes that were written. Raises InvalidError if `old` is not the file that
    the delta was made from, or decoding takes more memory than is allowed; IntegrityError if the
    delta is damaged; SpaceError if the disk is full. In all cases `target` is as it was.
    """
    if found.old is not None:
        require_file(old, "OLD")
        if old.stat().st_size != found.old.size:
            raise _another(old, found.old)
    pieces = _unfolded if found.encoding == encodings.ZSTD else _decoded
    try:
        with (
            files.explaining_full_disk(target, found.new_bytes),
            files.replacing(target, mode=_usual_mode()) as sink,
            delta.open("rb") as stream,
        ):
            for piece in pieces(stream, old, found):
                sink.write(piece)
                advance(len(piece))
    except IntegrityError:
        # Most damage is none: another old file leads to the strangest findings.
        if found.old is not None and digests.of_file(old) != found.old.sha256:
            raise _another(old, found.old) from None
        raise


def facts(path: Path) -> Facts:
    """Return what a file says of itself.

    Raises InvalidError if it is no delta, or of a later version; IntegrityError if its beginning is
    damaged.
    """
    require_file(path, "FILE")
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_ZSTD_HEADER_BYTES)
        if head.startswith(_ZSTD_MAGIC):
            return _of_frame(path, head, size)
        if not head.startswith(MAGIC):
            fix = "it is neither a delta file nor a zstd frame: `packhorse delta make` writes both"
            raise InvalidError("FILE", str(path), fix)
        stream.seek(0)
        header = read_header(Source(stream))
    return Facts(
        header.encoding, size, header.base, header.size, header.sha256, header.memory_bytes
    )


def show(path: Path) -> Shown:
    """Return what a file says of itself and where its bytes go; raise as `facts` does."""
    found = facts(path)
    if found.encoding == encodings.ZSTD:
        return Shown(found, 0, ())
    described = showing.describe(path)
    return Shown(found, described.overhead_bytes, described.shares)


def require_file(path: Path, field: str) -> None:
    """Raise InvalidError unless there is such a file, which may be read."""
    if not path.is_file() or not os.access(path, os.R_OK):
        raise InvalidError(field, str(path), "name a file that is there and may be read")


def _of_frame(path: Path, head: bytes, size: int) -> Facts:
    try:
        frame = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError as error:
        raise IntegrityError(str(path), wanted="a zstd frame", got=str(error)) from error
    if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN:
        fix = "this zstd frame does not tell how much it unfolds to: unfold it with `zstd -d`"
        raise InvalidError("FILE", str(path), fix)
    return Facts(encodings.ZSTD, size, None, frame.content_size, None, frame.window_size)


def _unfolded(stream: BinaryIO, _old: Path, found: Facts) -> Iterator[bytes]:
    """Yield what a zstd file unfolds to; unlike a stream reader, see that its end is there."""
    unfolder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
    left = found.new_bytes
    try:
        while not unfolder.eof and left >= 0 and (coded := stream.read(_CODED_BYTES)):
            piece = unfolder.decompress(coded)
            left -= len(piece)
            yield piece
    except zstandard.ZstdError as error:
        raise IntegrityError("FILE", wanted="a zstd frame", got=str(error)) from error
    if left or not unfolder.eof or unfolder.unused_data or stream.read(1):
        got = "fewer" if left > 0 or not unfolder.eof else "more"
        raise IntegrityError("FILE", wanted=f"a frame of {found.new_bytes} bytes", got=got)


def _decoded(stream: BinaryIO, old: Path, found: Facts) -> Iterator[bytes]:
    """Yield what a delta file makes of `old`."""
    sha256 = hashlib.sha256()
    base = None if found.old is None else old
    with applying.Decoder(stream, base) as decoder:
        while piece := decoder.read(_PIECE_BYTES):
            sha256.update(piece)
            yield piece
    if sha256.hexdigest() != found.new_sha256:
        wanted = str(found.new_sha256)
        raise IntegrityError("new file", wanted=wanted, got=sha256.hexdigest())


def _another(old: Path, base: Base) -> InvalidError:
    fix = f"the delta was made from another file, of {base.size} bytes and SHA-256 {base.sha256}"
    return InvalidError("OLD", str(old), fix)


def _usual_mode() -> int:
    """Return the permissions of a new file as the user's shell would give them."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask
