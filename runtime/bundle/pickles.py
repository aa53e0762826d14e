"""Tells files that run code when they are loaded: pickle, and what wraps one.

By name, and by content: a pickle's opcodes; object arrays of numpy; zip archives (torch, npz) with
either inside; and the first bytes of what gzip, bzip2, xz and zlib hold, as joblib compresses. No
more than some KiB of a file are read, but for a zip's directory.

This catches what is not hidden. A script can unpickle any bytes it likes: that is stopped where it
happens, by runtime.inference.pickles.
"""

import bz2
import contextlib
import functools
import io
import lzma
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

Opener = Callable[[], BinaryIO]
"""Opens a file for reading; it can seek."""
SUFFIXES = frozenset({
    ".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill", ".pt", ".pth",
})  # fmt: skip
WHEELS = "wheels/"
HEAD_BYTES = 64 * 1024
MAX_DIRECTORY_BYTES = 16 << 20
"""A zip with a longer list of members is not looked into, and counts as a pickle."""

_PROTOCOLS = range(2, 6)
_PROTO = 0x80
_OPCODES = frozenset(ord(opcode.code) for opcode in pickletools.opcodes)
_CALLS = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE"})
_NPY = b"\x93NUMPY"
_OBJECTS = re.compile(rb"['\"][|<>=]?O\d*['\"]")
_GZIP = 31
"""zlib's number for "with gzip's own header"."""
_LZMA_MEMORY = 64 << 20
_ZIP = b"PK\x03\x04"
_END = b"PK\x05\x06"
_END_BYTES = 22
_END64 = b"PK\x06\x06"
_LOCATOR64 = b"PK\x06\x07"
_END64_BYTES, _LOCATOR64_BYTES = 56, 20
_MAX_COMMENT = 0xFFFF


def find(files: Mapping[str, Opener]) -> tuple[str, ...]:
    """Return the paths of the bundle whose files are pickles, in order; each is opened once.

    Wheels are left out: they are code, and an entry script's business.
    """
    return tuple(path for path, opener in sorted(files.items()) if is_pickle(path, opener))


def find_below(directory: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Return those of a directory's files that are pickles, in order."""
    return find({path: functools.partial(_open, directory / path) for path in paths})


def _open(place: Path) -> BinaryIO:
    return place.open("rb")


def is_pickle(path: str, opener: Opener) -> bool:
    """Say whether a file, at `path` in its bundle, runs code when it is loaded."""
    if path.startswith(WHEELS) and path.endswith(".whl"):
        return False
    if PurePosixPath(path).suffix.lower() in SUFFIXES:
        return True
    with opener() as file:
        return _holds_pickle(file)


def _holds_pickle(file: BinaryIO) -> bool:
    head = file.read(HEAD_BYTES)
    if head.startswith(_ZIP):
        return _zip_holds_pickle(file)
    return _starts_pickle(head) or any(_starts_pickle(inner) for inner in _unpacked(head))


def _starts_pickle(head: bytes) -> bool:
    if head.startswith(_NPY):
        return _OBJECTS.search(head) is not None
    if len(head) > 2 and head[0] == _PROTO and head[1] in _PROTOCOLS:  # noqa: PLR2004 - two bytes and one more
        return head[2] in _OPCODES
    return _is_old_pickle(head)


def _is_old_pickle(head: bytes) -> bool:
    """Say whether bytes are a whole pickle of protocol 0 or 1 that calls something.

    Those begin like any text, so they must make sense to their end.
    """
    if head[:1] not in {b"c", b"(", b"]", b"}", b"l", b"d", b"i"}:
        return False
    called = False
    # genops raises ValueError where bytes stop making sense, and others on odd arguments.
    with contextlib.suppress(ValueError, IndexError, KeyError, OverflowError, struct.error):
        for opcode, _, _ in pickletools.genops(io.BytesIO(head)):
            called = called or opcode.name in _CALLS
            if opcode.name == "STOP":
                return called
    return False


def _unpacked(head: bytes) -> list[bytes]:
    """Return the first bytes of what is compressed here, if anything is."""
    attempts: tuple[tuple[bytes, Callable[[], bytes]], ...] = (
        (b"\x1f\x8b", lambda: zlib.decompressobj(_GZIP).decompress(head, HEAD_BYTES)),
        (b"BZh", lambda: bz2.BZ2Decompressor().decompress(head, HEAD_BYTES)),
        (b"\xfd7zXZ", lambda: _lzma(head)),
        (b"\x5d\x00\x00", lambda: _lzma(head)),
        (b"\x78", lambda: zlib.decompressobj().decompress(head, HEAD_BYTES)),
    )
    found = []
    for magic, unpack in attempts:
        if head.startswith(magic):
            with contextlib.suppress(zlib.error, lzma.LZMAError, OSError, EOFError):
                found.append(unpack())
    return found


def _lzma(head: bytes) -> bytes:
    return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY).decompress(head, HEAD_BYTES)


def _zip_holds_pickle(file: BinaryIO) -> bool:
    if _directory_bytes(file) > MAX_DIRECTORY_BYTES:
        return True
    try:
        with zipfile.ZipFile(file) as archive:
            return any(_member_is_pickle(archive, member) for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, struct.error):
        return False


def _directory_bytes(file: BinaryIO) -> int:
    """Return how long a zip's list of members says it is, as zipfile finds it; 0 without one."""
    size = file.seek(0, io.SEEK_END)
    ends = _END64_BYTES + _LOCATOR64_BYTES + _END_BYTES
    file.seek(max(0, size - ends - _MAX_COMMENT))
    tail = file.read()
    bare = tail[-_END_BYTES:].startswith(_END) and tail.endswith(b"\0\0")
    at = len(tail) - _END_BYTES if bare else tail.rfind(_END)
    if at < 0 or len(tail) < at + _END_BYTES:
        return 0
    locator = at - _LOCATOR64_BYTES
    record = locator - _END64_BYTES
    if record >= 0 and tail.startswith(_LOCATOR64, locator) and tail.startswith(_END64, record):
        return int.from_bytes(tail[record + 40 : record + 48], "little")
    return int.from_bytes(tail[at + 12 : at + 16], "little")


def _member_is_pickle(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    if PurePosixPath(member.filename).suffix.lower() in SUFFIXES:
        return True
    try:
        with archive.open(member) as file:
            return _starts_pickle(file.read(HEAD_BYTES))
    # RuntimeError is zipfile's "needs a password", and the parent of NotImplementedError.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError):
        return False
