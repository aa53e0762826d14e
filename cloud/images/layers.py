"""Layers as tar files that are the same byte for byte whenever they are made of the same files.

Members are sorted, belong to root, have no time, and are readable by all and writable by nobody. So
a layer that a new version has in common with the one before is the same layer, and travels once.
"""

import hashlib
import io
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from runtime import digests, files

_CHUNK_BYTES = 1 << 20
_DIRECTORY, _FILE, _PROGRAM = 0o755, 0o444, 0o555


@dataclass(frozen=True)
class Entry:
    """One file or link of a layer."""

    path: str
    """Absolute within the image, without the leading '/'."""
    size: int = 0
    open: Callable[[], BinaryIO] | None = None
    """Gives the bytes; None: a symbolic link."""
    link: str = ""
    executable: bool = False
    owner: int | None = None
    """Of a directory of its own, which this user may write; None: a file or a link."""


@dataclass(frozen=True)
class Layer:
    """A finished tar."""

    path: Path
    sha256: str
    size_bytes: int


def of_bytes(path: str, data: bytes) -> Entry:
    """Return a file with these bytes."""
    return Entry(path, len(data), lambda: io.BytesIO(data))


def of_file(path: str, source: Path, *, executable: bool = False) -> Entry:
    """Return a file like one on disk."""
    return Entry(path, source.stat().st_size, lambda: source.open("rb"), executable=executable)


def below(prefix: str, directory: Path) -> Iterator[Entry]:
    """Yield every file below a directory, for the same places below `prefix`."""
    for source in sorted(directory.rglob("*")):
        if source.is_file():
            executable = bool(source.stat().st_mode & stat.S_IXUSR)
            name = f"{prefix}/{source.relative_to(directory).as_posix()}"
            yield of_file(name, source, executable=executable)


def write(target: Path, entries: Iterable[Entry]) -> Layer:
    """Durably write a layer; `target`'s directory must be there."""
    members = sorted(entries, key=lambda each: each.path)
    with files.replacing(target) as stream:
        pack(members, stream)
    return read(target)


def read(target: Path) -> Layer:
    """Return a layer that was written before."""
    return Layer(target, str(digests.of_file(target)), target.stat().st_size)


def pack(members: Iterable[Entry], stream: BinaryIO) -> None:
    """Write the tar of entries that are sorted."""
    made: set[str] = set()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for entry in members:
            for parent in reversed(PurePosixPath(entry.path).parents[:-1]):
                if str(parent) not in made:
                    made.add(str(parent))
                    tar.addfile(_member(str(parent), tarfile.DIRTYPE, _DIRECTORY))
            _add(tar, entry)


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    if entry.owner is not None:
        member = _member(entry.path, tarfile.DIRTYPE, _DIRECTORY)
        member.uid = member.gid = entry.owner
        tar.addfile(member)
        return
    if entry.open is None:
        member = _member(entry.path, tarfile.SYMTYPE, 0o777)
        member.linkname = entry.link
        tar.addfile(member)
        return
    member = _member(entry.path, tarfile.REGTYPE, _PROGRAM if entry.executable else _FILE)
    member.size = entry.size
    with entry.open() as source:
        tar.addfile(member, source)


def _member(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.mtime = kind, mode, 0
    return member


def normalised(packed: BinaryIO, target: Path, prefix: str) -> Layer:
    """Write a layer of the regular files of another tar, each put below `prefix`."""
    with tarfile.open(fileobj=packed, mode="r:") as tar:
        entries = [
            Entry(
                f"{prefix}/{member.name}",
                member.size,
                _extraction(tar, member),
                executable=bool(member.mode & stat.S_IXUSR),
            )
            for member in tar
            if member.isfile()
        ]
        return write(target, entries)


def _extraction(packed: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], BinaryIO]:
    def extract() -> BinaryIO:
        stream = packed.extractfile(member)
        assert stream is not None, "it is a regular file"
        return stream  # type: ignore[return-value]  # typeshed calls it IO[bytes]

    return extract


def digest_of(entries: Iterable[Entry]) -> str:
    """Return one SHA-256 over paths and contents, as `write` would lay them out."""
    sha256 = hashlib.sha256()
    for entry in sorted(entries, key=lambda each: each.path):
        sha256.update(f"{entry.path}\0{entry.link}\0{entry.executable}\0{entry.owner}\0".encode())
        if entry.open is not None:
            with entry.open() as stream:
                sha256.update(str(digests.of_stream(stream)).encode())
    return sha256.hexdigest()
