"""Unpacks a wheel: a zip of packages, with `NAME.data/purelib` and `…/platlib` beside them.

Scripts and headers are unpacked and not used. What a wheel may unpack to is bounded.
"""

import functools
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import IO

from runtime import digests, files
from runtime.errors import InvalidError, ModelError

MAX_MEMBERS = 100_000
MAX_UNPACKED_BYTES = 4 << 30


def unpack(wheel: Path, target: Path) -> None:
    """Durably make `target` hold a wheel's files; do nothing if it does, byte for byte.

    Raises ModelError if the file is no wheel, SpaceError if the disk is full.
    """
    files.make_directory(target.parent)
    staging = target.with_name(f".{target.name}.{os.getpid()}{files.TEMPORARY_SUFFIX}")
    files.remove(staging)
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if len(members) > MAX_MEMBERS or size > MAX_UNPACKED_BYTES:
                raise ModelError(f"{wheel.name}: it unpacks to {len(members)} files, {size} bytes")
            if all(_is_there(member, target) for member in members):
                return
            files.remove(target)
            with files.explaining_full_disk(staging, size):
                _fill(archive, members, staging)
        _put(staging, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, InvalidError, NotImplementedError) as error:
        raise ModelError(f"{wheel.name} is no wheel: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    files.fsync_directory(target.parent)


def roots(unpacked: Path) -> list[Path]:
    """Return the directories to import from."""
    inner = [place for kind in ("purelib", "platlib") for place in unpacked.glob(f"*.data/{kind}")]
    return [unpacked, *inner]


def _fill(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], staging: Path) -> None:
    directories = {staging}
    files.make_directory(staging)
    for member in members:
        if member.is_dir():
            continue
        path = staging / files.relative_path(member.filename, "wheel")
        directories.update(parent for parent in path.parents if parent.is_relative_to(staging))
        files.make_directory(path.parent)
        with archive.open(member) as packed, path.open("xb") as plain:
            _copy(packed, plain, member.file_size)
            plain.flush()
            files.fsync_file(plain.fileno(), path)
    for directory in directories:
        files.fsync_directory(directory)


def _is_there(member: zipfile.ZipInfo, target: Path) -> bool:
    """Say whether what a member holds lies where it belongs, as it was when it was packed."""
    path = target / files.relative_path(member.filename.rstrip("/"), "wheel")
    if member.is_dir():
        return True
    try:
        with path.open("rb") as file:
            crc = functools.reduce(_add, digests.chunks(file), 0)
            return crc == member.CRC and file.tell() == member.file_size
    except OSError:
        return False


def _add(crc: int, chunk: bytes) -> int:
    return zlib.crc32(chunk, crc)


def _copy(packed: IO[bytes], plain: IO[bytes], size: int) -> None:
    """Copy what a member promised to hold, and no byte more."""
    while size > 0 and (chunk := packed.read(min(size, digests.CHUNK_BYTES))):
        plain.write(chunk)
        size -= len(chunk)


def _put(staging: Path, target: Path) -> None:
    """Give what is whole its name; another worker of the same bundle may have been first."""
    files.commit_point("rename", target)
    try:
        staging.rename(target)
    except OSError:
        if not target.is_dir():
            raise
