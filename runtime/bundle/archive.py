"""Versions in one file, for sites that no wire reaches: a tar that is the same byte for byte.

    packhorse.json      the manifest: versions, and the size of every blob
    blobs/<sha256>      the blobs, in the order of their names

The manifest tells where every byte of the file has to be, and a member's header holds nothing but
its name and size. So a reader needs no tar library, seeks what it wants, and refuses whatever a
writer would not have written: links, other paths, repeated members, anything behind the end.
Specified in docs/specs/archive.md.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import msgspec

from runtime import digests, messages
from runtime.bundle import index as bundle_index
from runtime.bundle.index import Index
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

FORMAT = 1
MANIFEST_NAME = "packhorse.json"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
MAX_VERSIONS = 1000
MAX_BLOBS = 50_000
MAX_BLOB_BYTES = 1 << 40
MAX_INDEXES_BYTES = 64 * 1024 * 1024
"""Of all indexes together: a reader holds them in memory."""
_BLOCK = 512
_END = bytes(2 * _BLOCK)
_CHUNK_BYTES = 1 << 20
_OCTAL_BYTES = 8 << 30
"""What is larger has its size in base 256, as GNU tar writes it."""


class Blob(msgspec.Struct, frozen=True):
    """One blob of the file."""

    sha256: Digest
    size: int


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version, as the registry had it that it comes from."""

    model: str
    version: int
    """Its number there; another registry may give it another."""
    bundle: Digest
    created_at: float = 0.0
    created_by: str = ""
    description: str = ""
    tags: dict[str, str] = {}
    metadata: dict[str, str] = {}
    card: str = ""
    """Markdown; "": the version has none of its own."""
    lineage: dict[str, Any] | None = None
    """Plain values, as the registry's API gives them."""
    asked: bool = True
    """False: only here because another version is made of it."""


class Manifest(msgspec.Struct, frozen=True):
    """What a file holds."""

    format: int
    origin: str
    """Fingerprint of the CA of the registry that it comes from."""
    versions: tuple[Entry, ...]
    """Each behind those that it is made of."""
    blobs: tuple[Blob, ...]
    """Every file and every index of all versions, once each, in the order of their names."""


def encode(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a manifest."""
    return messages.canonical_json(manifest) + b"\n"


def size_of(manifest: Manifest) -> int:
    """Return how many bytes the file of this manifest has."""
    sizes = [len(encode(manifest)), *(blob.size for blob in manifest.blobs)]
    return sum(_BLOCK + _padded(size) for size in sizes) + len(_END)


def write(manifest: Manifest, read: Callable[[Digest], Iterable[bytes]], stream: BinaryIO) -> None:
    """Write the file; `read` gives a blob's bytes. Raises IntegrityError if they are others."""
    validate(manifest)
    head = encode(manifest)
    _write_member(stream, MANIFEST_NAME, len(head), [head])
    for blob in manifest.blobs:
        _write_member(stream, f"blobs/{blob.sha256}", blob.size, _checked(blob, read(blob.sha256)))
    stream.write(_END)


def validate(manifest: Manifest) -> None:
    """Raise InvalidError naming the first field that no reader would accept."""
    if not 0 < len(manifest.versions) <= MAX_VERSIONS:
        raise InvalidError("versions", len(manifest.versions), f"1 to {MAX_VERSIONS}")
    if len(manifest.blobs) > MAX_BLOBS:
        raise InvalidError("blobs", len(manifest.blobs), f"at most {MAX_BLOBS}")
    names = [digests.parse(blob.sha256, "blobs.sha256") for blob in manifest.blobs]
    if names != sorted(set(names)):
        raise InvalidError("blobs", f"{len(names)} blobs", "list each once, by name")
    for blob in manifest.blobs:
        if not 0 <= blob.size <= MAX_BLOB_BYTES:
            raise InvalidError("blobs.size", blob.size, f"0 to {MAX_BLOB_BYTES}")
    there = set(names)
    for entry in manifest.versions:
        if entry.bundle not in there:
            raise InvalidError("versions.bundle", entry.bundle, "its index has to be in the file")
        if entry.version < 1:
            raise InvalidError("versions.version", entry.version, "count from 1")
    if len({(entry.model, entry.bundle) for entry in manifest.versions}) < len(manifest.versions):
        raise InvalidError("versions", "one twice", "list each version once")


class Archive:
    """A file of versions, open for reading. Not for several threads at once."""

    def __init__(self, stream: BinaryIO) -> None:
        """Read and check all but the blobs' bytes; raises InvalidError or IntegrityError."""
        self._stream = stream
        self._whole = stream.seek(0, os.SEEK_END)
        self.manifest = self._read_manifest()
        self._offsets: dict[Digest, int] = {}
        self._sizes = {blob.sha256: blob.size for blob in self.manifest.blobs}
        self._check_members()
        bundles = {entry.bundle for entry in self.manifest.versions}
        if (total := sum(self._sizes[bundle] for bundle in bundles)) > MAX_INDEXES_BYTES:
            raise InvalidError("archive.indexes", f"{total} bytes", f"at most {MAX_INDEXES_BYTES}")
        self.indexes: Mapping[Digest, tuple[Index, bytes]] = {
            entry.bundle: self._read_index(entry) for entry in self.manifest.versions
        }
        """By the digests of the bundles; each with its bytes."""
        self._require_just_these()

    def size(self, digest: Digest) -> int:
        """Return a blob's size; raise KeyError if it is not in the file."""
        return self._sizes[digest]

    def open(self, digest: Digest) -> BinaryIO:
        """Return a blob's bytes, unchecked; raise KeyError if it is not in the file.

        Whoever stores them compares them with their digest, as all our stores do.
        """
        window = _Window(self._stream, self._offsets[digest], self._sizes[digest])
        return io.BufferedReader(window, _CHUNK_BYTES)

    def needs(self, bundle: Digest) -> tuple[Digest, ...]:
        """Return the blobs of a bundle, each once, its index last."""
        index, _ = self.indexes[bundle]
        return (*dict.fromkeys(entry.sha256 for entry in index.files), bundle)

    def _read_manifest(self) -> Manifest:
        self._stream.seek(0)
        head = self._stream.read(_BLOCK)
        size = _size_in(head)
        if head != _header(MANIFEST_NAME, size) or size > MAX_MANIFEST_BYTES:
            raise InvalidError(
                "archive", head[:40], "give a file that `packhorse models export` made"
            )
        body = self._stream.read(size)
        try:
            manifest = msgspec.json.decode(body, type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidError("archive.manifest", body[:60], str(error)) from error
        if manifest.format != FORMAT:
            fix = f"this Packhorse reads {FORMAT}: use the newer one"
            raise InvalidError("archive.format", manifest.format, fix)
        validate(manifest)
        self._manifest_bytes = size
        return manifest

    def _check_members(self) -> None:
        """Compare the headers with those that a writer writes; needs no blob's bytes."""
        at = _BLOCK + _padded(self._manifest_bytes)
        wanted = at + sum(_BLOCK + _padded(blob.size) for blob in self.manifest.blobs) + len(_END)
        if self._whole != wanted:
            fix = f"it has to have {wanted}: copy it again"
            raise InvalidError("archive", f"{self._whole} bytes", fix)
        self._require_zeros(_BLOCK + self._manifest_bytes, at)
        for blob in self.manifest.blobs:
            self._stream.seek(at)
            if self._stream.read(_BLOCK) != _header(f"blobs/{blob.sha256}", blob.size):
                raise InvalidError("archive", f"blob {blob.sha256}", "its member is another one")
            self._offsets[blob.sha256] = at + _BLOCK
            at += _BLOCK + _padded(blob.size)
            self._require_zeros(at - _padded(blob.size) + blob.size, at)
        self._require_zeros(at, self._whole)

    def _require_zeros(self, start: int, stop: int) -> None:
        self._stream.seek(start)
        if any(self._stream.read(stop - start)):
            raise InvalidError("archive", f"byte {start} and on", "padding is zeros")

    def _read_index(self, entry: Entry) -> tuple[Index, bytes]:
        with self.open(entry.bundle) as stream:
            data = stream.read()
        if (got := digests.of_bytes(data)) != entry.bundle:
            raise IntegrityError(f"index of {entry.model}", wanted=entry.bundle, got=got)
        index = bundle_index.decode(data)
        if index.name != entry.model:
            raise InvalidError("versions.model", entry.model, f"its index says {index.name}")
        return index, data

    def _require_just_these(self) -> None:
        """Raise InvalidError unless the blobs are those that the indexes name, and no more."""
        wanted = {bundle: len(data) for bundle, (_, data) in self.indexes.items()}
        for index, _ in self.indexes.values():
            wanted |= {entry.sha256: entry.size for entry in index.files}
        if wanted != self._sizes:
            fix = "it has to hold the files of its versions, and nothing else"
            raise InvalidError("archive.blobs", f"{len(self._sizes)} blobs", fix)


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._stream, self._at, self._stop = stream, start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._stream.seek(self._at)
        data = self._stream.read(min(len(buffer), self._stop - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _write_member(stream: BinaryIO, name: str, size: int, chunks: Iterable[bytes]) -> None:
    stream.write(_header(name, size))
    stream.writelines(chunks)
    stream.write(bytes(_padded(size) - size))


def _checked(blob: Blob, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks; raise IntegrityError behind the last if they are not the blob."""
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        sha256.update(chunk)
        size += len(chunk)
        yield chunk
    if sha256.hexdigest() != blob.sha256 or size != blob.size:
        got = f"{size} bytes, {sha256.hexdigest()}"
        raise IntegrityError(f"blob {blob.sha256}", wanted=f"{blob.size} bytes", got=got)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _header(name: str, size: int) -> bytes:
    """Return the one header that a regular file of this name and size may have."""
    octal = size < _OCTAL_BYTES
    fields = (
        (name.encode(), 100),
        (b"0000644", 8),  # mode
        (b"0000000", 8),  # user
        (b"0000000", 8),  # group
        (b"%011o" % size if octal else b"\x80" + size.to_bytes(11, "big"), 12),
        (b"00000000000", 12),  # modified at
        (b" " * 8, 8),  # the checksum's place
        (b"0", 1),  # a regular file
        (b"", 100),  # no link
        (b"ustar", 6),
        (b"00", 2),
        (b"", 64),  # names of user and group
        (b"0000000", 8),  # device numbers
        (b"0000000", 8),
    )
    head = b"".join(value.ljust(width, b"\x00") for value, width in fields).ljust(_BLOCK, b"\x00")
    return head[:148] + b"%06o\x00 " % sum(head) + head[156:]


def _size_in(head: bytes) -> int:
    """Return the size that a header names; 0 if it names none."""
    field = head[124:136]
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.rstrip(b"\x00 ")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else 0
