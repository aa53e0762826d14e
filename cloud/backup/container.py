"""The file of a backup: a tar in zstd, written and read from front to back.

    rows/<table>        the rows of a table, see cloud.backup.rows
    authority/…         the CA, its keys and certificates
    secrets/…           what signs download URLs and seals secrets, the admin's key
    blobs/<sha256>      the files of bundles, and their indexes
    manifest.json       what all of this is, with the digest of each member
    manifest.sha256     last: the digest of that; format 1 had none

Who has it can be the registry: it is made for its owner's eyes alone.
"""

import contextlib
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import zstandard

from runtime import digests, files, messages
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

FORMAT = 2
_READ = (1, FORMAT)
"""Formats that are read."""
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
MAX_MANIFEST_BYTES = 256 << 20
_SEAL_BYTES = 64
PRIVATE = 0o600
_LEVEL = 3
_MEMBER = re.compile(
    r"rows/[a-z0-9_]{1,63}|(authority|secrets)/[A-Za-z0-9._-]{1,64}|blobs/[0-9a-f]{64}"
)
_FIX = "give a file that `packhorse backup` made"


class Rows(msgspec.Struct, frozen=True):
    """One table."""

    name: str
    columns: tuple[str, ...]
    rows: int


class Member(msgspec.Struct, frozen=True):
    """One file of the backup."""

    name: str
    size: int
    sha256: Digest


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds."""

    format: int
    created_at: float
    """Seconds since 1970, when the rows were as they are here."""
    packhorse: str
    """Version of the program that made it."""
    schema: str
    """Version of the database's schema."""
    fingerprint: str
    """Of the CA."""
    blobs: bool
    """Whether the blobs are in it, or stay in a store of their own."""
    tables: tuple[Rows, ...]
    members: tuple[Member, ...]
    missing: tuple[Digest, ...] = ()
    """Blobs that the registry had lost before."""


class Writer:
    """Adds members one after the other; remembers their digests."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.members: list[Member] = []

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> None:
        """Add a member; raise IntegrityError unless the chunks make up `size` bytes."""
        stream = _Chunks(chunks)
        self._tar.addfile(_info(name, size), cast("BinaryIO", stream))
        if stream.size != size or stream.read(1):
            raise IntegrityError(name, wanted=f"{size} bytes", got=f"{stream.size} or more")
        self.members.append(Member(name, size, Digest(stream.sha256.hexdigest())))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file, which nobody changes meanwhile."""
        with path.open("rb") as file:
            self.add(name, os.fstat(file.fileno()).st_size, digests.chunks(file))

    def finish(self, manifest: Manifest) -> None:
        """Add the manifest and its digest, which ends the file."""
        data = messages.canonical_json(manifest)
        for name, content in ((MANIFEST, data), (SEAL, digests.of_bytes(data).encode())):
            self._tar.addfile(_info(name, len(content)), io.BytesIO(content))


@contextlib.contextmanager
def writing(target: Path) -> Iterator[Writer]:
    """Make a file appear, durable and whole, when the block has ended; nothing if it raises."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=-1)
    with (
        files.replacing(target, mode=PRIVATE) as file,
        compressor.stream_writer(file, closefd=False) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        yield Writer(tar)


def unpack(source: Path, directory: Path) -> Manifest:
    """Write all members below `directory`; return the manifest.

    Raises InvalidError if this is no backup or a newer one's, IntegrityError if any byte is not
    what was written, SpaceError.
    """
    found: dict[str, Member] = {}
    manifest, seal = b"", b""
    try:
        with source.open("rb") as file, _reading(file) as tar:
            for info in tar:
                stream = tar.extractfile(info) if info.isreg() else None
                ends = bool(seal) or (bool(manifest) and info.name != SEAL)
                if stream is None or info.name in found or ends:
                    raise InvalidError("backup", info.name, _FIX)
                if info.name == MANIFEST:
                    manifest = stream.read(MAX_MANIFEST_BYTES)
                elif info.name == SEAL and manifest:
                    seal = stream.read(_SEAL_BYTES)
                elif _MEMBER.fullmatch(info.name):
                    found[info.name] = _extract(info.name, stream, directory / info.name)
                else:
                    raise InvalidError("backup", info.name, _FIX)
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise InvalidError("backup", str(source), f"{_FIX} ({error})") from error
    return _checked(manifest, seal, found)


@contextlib.contextmanager
def _reading(file: BinaryIO) -> Iterator[tarfile.TarFile]:
    with (
        zstandard.ZstdDecompressor().stream_reader(file, closefd=False) as packed,
        tarfile.open(fileobj=cast("BinaryIO", packed), mode="r|") as tar,
    ):
        yield tar


def _checked(data: bytes, seal: bytes, found: dict[str, Member]) -> Manifest:
    try:
        plain: Any = msgspec.json.decode(data)
        if isinstance(plain, dict) and plain.get("format") not in _READ:
            fix = f"this Packhorse reads {_READ[0]} to {FORMAT}: use the newer one"
            raise InvalidError("backup.format", plain.get("format"), fix)
        manifest = msgspec.convert(plain, Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InvalidError("backup", data[:40], f"it is cut off ({error})") from error
    digest = digests.of_bytes(data)
    if (seal or manifest.format == FORMAT) and digest.encode() != seal:
        sealed = seal.decode("ascii", "replace") or "nothing"
        raise IntegrityError(f"backup: {MANIFEST}", wanted=sealed, got=digest)
    named = {member.name: member for member in manifest.members}
    for name in sorted({*named, *found}):
        wanted, got = named.get(name), found.get(name)
        if wanted != got:
            raise IntegrityError(f"backup: {name}", wanted=_said(wanted), got=_said(got))
    return manifest


def _said(member: Member | None) -> str:
    return "nothing" if member is None else f"{member.size} bytes, {member.sha256}"


def _extract(name: str, stream: Any, target: Path) -> Member:
    files.make_directory(target.parent)
    size, sha256 = 0, hashlib.sha256()
    with files.explaining_full_disk(target, digests.CHUNK_BYTES), target.open("xb") as file:
        os.fchmod(file.fileno(), PRIVATE)
        for chunk in digests.chunks(stream):
            file.write(chunk)
            sha256.update(chunk)
            size += len(chunk)
    return Member(name, size, Digest(sha256.hexdigest()))


def _info(name: str, size: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.mode = size, PRIVATE
    return made


class _Chunks:
    """Chunks as a file to read; hashes what was read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._left = iter(chunks), b""
        self.size, self.sha256 = 0, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return exactly `size` bytes; fewer at the end."""
        while len(self._left) < size and (chunk := next(self._chunks, b"")):
            self._left += chunk
        data, self._left = self._left[:size], self._left[size:]
        self.size += len(data)
        self.sha256.update(data)
        return data
