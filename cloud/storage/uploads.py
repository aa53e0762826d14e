"""Uploads in pieces: what has arrived of large blobs, kept on disk until they are whole.

    uploads/{id}/upload.json    whose it is, and which blob shall come
    uploads/{id}/part-7         the eighth part, durable and checked

A part is there whole or not at all, so an upload goes on after a cut, or after the registry was
killed, with the parts that are missing. All parts together are checked against the digest of the
blob before it becomes one. `id` follows from who uploads what: asking again finds it again.
"""

import contextlib
import json
import math
import os
import re
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cloud.errors import BusyError, NotFoundError
from cloud.storage import streams
from cloud.storage.blobs import Blobs
from runtime import digests, files
from runtime.bundle.blobs import Readable
from runtime.clock import Clock
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

MIB = 1 << 20
PART_BYTES = 8 * MIB
MAX_PARTS = 1000
"""A larger blob has larger parts."""
_STATE = "upload.json"
_PART = "part-"
_GONE = ".gone"
_ID_DIGITS = 32


@dataclass(frozen=True)
class Limits:
    """What all uploads together may take."""

    blob_bytes: int
    count: int
    total_bytes: int
    ttl_s: float
    """An upload for which nothing came for so long is forgotten."""


@dataclass(frozen=True)
class Upload:
    """One blob that is coming."""

    id: str
    sha256: Digest
    size_bytes: int
    part_bytes: int
    """Of each part but the last."""
    actor: str

    @property
    def parts(self) -> int:
        """How many there are; they are numbered from 0 on."""
        return math.ceil(self.size_bytes / self.part_bytes)

    def size_of(self, number: int) -> int:
        """Return the size of a part in bytes; raise InvalidError if there is no such part."""
        if not 0 <= number < self.parts:
            raise InvalidError("part", number, f"give a number from 0 to {self.parts - 1}")
        return min(self.part_bytes, self.size_bytes - number * self.part_bytes)


class Uploads:
    """All uploads of one registry. Any thread may use it."""

    def __init__(self, root: Path, blobs: Blobs, clock: Clock, limits: Limits) -> None:
        """Go on with what is below `root`, which is made if it is missing."""
        self._root, self._blobs = files.make_directory(root), blobs
        self._clock, self._limits = clock, limits
        self._guard = threading.Lock()
        self._busy: Counter[str] = Counter()
        self._completing: dict[str, threading.Lock] = {}
        for folder in self._root.iterdir():
            if folder.suffix == _GONE:
                files.remove(folder)
            else:
                files.sweep_temporaries(folder)

    def begin(self, actor: str, sha256: Digest, size: int) -> Upload:
        """Return the upload of this blob by this client, begun now or before.

        Raises InvalidError for a size that a blob cannot have, BusyError if there are too many.
        """
        if not 0 < size <= self._limits.blob_bytes:
            fix = f"from 1 to {self._limits.blob_bytes} bytes; send an empty one in one request"
            raise InvalidError("size_bytes", size, fix)
        made = Upload(_id(actor, sha256, size), sha256, size, _part_bytes(size), actor)
        with self._guard:
            if (found := self._read(made.id)) is not None:
                self._touch(self._root / made.id)
                return found
            self._require_room(size)
            folder = files.make_directory(self._root / made.id)
            files.write_json(folder / _STATE, asdict(made))
            files.fsync_directory(self._root)
            self._touch(folder)
        return made

    def get(self, upload_id: str, actor: str) -> Upload:
        """Return an upload; raise NotFoundError if this client has none of that id."""
        found = self._read(upload_id)
        if found is None or found.actor != actor:
            raise NotFoundError("upload", upload_id, "begin it again")
        return found

    def arrived(self, upload: Upload) -> list[int]:
        """Return the numbers of the parts that are here."""
        folder = self._root / upload.id
        return [number for number in range(upload.parts) if (folder / _name(number)).is_file()]

    def put_part(self, upload: Upload, number: int, stream: Readable, sha256: Digest) -> None:
        """Durably store a part; one that is here already changes nothing, and is not read.

        Raises IntegrityError, and keeps nothing of it, if the bytes are not those of `sha256`;
        NotFoundError if the upload was ended meanwhile; SpaceError if the disk is full.
        """
        size, folder = upload.size_of(number), self._root / upload.id
        target = folder / _name(number)
        with self._used(upload), _ended(upload):
            if target.is_file():
                return
            files.require_space(folder, size)
            with files.explaining_full_disk(folder, size), files.replacing(target) as file:
                streams.receive(f"part {number}", stream, file, size, sha256)
            self._touch(folder)

    def complete(self, upload: Upload) -> int:
        """Make the blob of the parts, and forget them; return its size.

        Raises InvalidError if parts are missing; IntegrityError, and forgets them too, if together
        they are not the blob; NotFoundError if the upload was ended meanwhile.
        """
        with self._guard:
            completing = self._completing.setdefault(upload.id, threading.Lock())
        try:
            with completing, self._used(upload), _ended(upload):
                return self._complete(upload)
        finally:
            with self._guard:
                self._completing.pop(upload.id, None)

    def abort(self, upload: Upload) -> None:
        """Forget an upload; one that is not there is fine."""
        _remove(self._root / upload.id)

    def stale(self) -> int:
        """Return how many uploads nobody goes on with."""
        return len(self._stale())

    def sweep(self) -> int:
        """Forget uploads that nobody goes on with; return how many."""
        with self._guard:
            return self._forget(self._stale())

    def _forget(self, folders: list[Path]) -> int:
        """Remove the uploads among these that nobody is at; return how many."""
        idle = [each for each in folders if self._busy[each.name] == 0]
        for folder in idle:
            _remove(folder)
        return len(idle)

    def _complete(self, upload: Upload) -> int:
        folder = self._root / upload.id
        if not (folder / _STATE).is_file():
            raise NotFoundError("upload", upload.id, "it was completed, or ended")
        missing = sorted(set(range(upload.parts)) - set(self.arrived(upload)))
        if missing:
            raise InvalidError("parts", f"{len(missing)} missing", f"send part {missing[0]} first")
        names = [folder / _name(number) for number in range(upload.parts)]
        try:
            with contextlib.closing(streams.Joined(names)) as joined:
                limit = upload.size_bytes
                size = self._blobs.put_stream(upload.sha256, joined, limit_bytes=limit)
        except IntegrityError:
            self.abort(upload)
            raise
        self.abort(upload)
        return size

    def _require_room(self, size: int) -> None:
        """Raise BusyError or SpaceError unless one more upload of this size fits."""
        self._forget(self._stale())
        under_way = [found for each in self._folders() if (found := self._read(each.name))]
        total = sum(upload.size_bytes for upload in under_way)
        if len(under_way) >= self._limits.count or total + size > self._limits.total_bytes:
            raise BusyError(
                f"uploads: {len(under_way)} with {total} bytes are under way: wait, or end one"
            )
        # The parts, and the blob that is made of them.
        files.require_space(self._root, 2 * size)

    def _read(self, upload_id: str) -> Upload | None:
        if not re.fullmatch(f"[0-9a-f]{{{_ID_DIGITS}}}", upload_id):
            return None
        try:
            return Upload(**json.loads((self._root / upload_id / _STATE).read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _folders(self) -> list[Path]:
        return [path for path in self._root.iterdir() if path.suffix != _GONE]

    def _stale(self) -> list[Path]:
        oldest = self._clock.now() - self._limits.ttl_s
        return [each for each in self._folders() if _touched_at(each) < oldest]

    def _touch(self, folder: Path) -> None:
        """Note, by the registry's clock, that something came for an upload."""
        now = self._clock.now()
        os.utime(folder / _STATE, (now, now))

    @contextlib.contextmanager
    def _used(self, upload: Upload) -> Iterator[None]:
        """Keep an upload from being swept."""
        with self._guard:
            self._busy[upload.id] += 1
        try:
            yield
        finally:
            with self._guard:
                self._busy[upload.id] -= 1
                self._busy += Counter()  # drops the zeros


@contextlib.contextmanager
def _ended(upload: Upload) -> Iterator[None]:
    """Explain that the files of an upload are gone."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError("upload", upload.id, "it was completed, or ended") from error


def _remove(folder: Path) -> None:
    """Remove an upload; parts that come at this moment find no directory to go to."""
    gone = folder.with_suffix(f".{secrets.token_hex(4)}{_GONE}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(gone)
        files.remove(gone)


def _touched_at(folder: Path) -> float:
    """Return when something came last; for what has no state, long ago."""
    try:
        return (folder / _STATE).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _id(actor: str, sha256: Digest, size: int) -> str:
    return digests.of_bytes(f"{actor}\n{sha256}\n{size}".encode())[:_ID_DIGITS]


def _part_bytes(size: int) -> int:
    """Return the smallest whole number of MiB that makes few enough parts."""
    return max(PART_BYTES, math.ceil(size / MAX_PARTS / MIB) * MIB)


def _name(number: int) -> str:
    return f"{_PART}{number}"
