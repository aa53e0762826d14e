"""Blobs as they travel, kept once made: encoded bytes and their part table.

encodings/zstd/ab/abcdef….data     the encoded bytes
encodings/zstd/ab/abcdef….parts    their part table, written last: both are there, or neither
encodings/patch/ab/abcdef….BASE.data, .parts    for receivers that hold the blob BASE
"""

import contextlib
import os
import secrets
import threading
from dataclasses import dataclass

from cloud.storage.blobs import Blobs
from cloud.storage.objects import ObjectStore
from runtime import digests, files
from runtime.bundle import encodings, parts
from runtime.bundle.parts import PartTable
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

ROOT = "encodings/"
_REMEMBERED = 256


@dataclass(frozen=True)
class Recipe:
    """Which encoding of which blob."""

    blob: Digest
    encoding: str
    base: Digest | None = None
    """What the receiver must hold; only for encodings that build on another blob."""

    @property
    def key(self) -> str:
        """Where it is stored, without `.data` or `.parts`."""
        name = digests.parse(self.blob, "blob")
        tail = "" if self.base is None else f".{digests.parse(self.base, 'base')}"
        return f"{ROOT}{self.encoding}/{name[:2]}/{name}{tail}"


@dataclass(frozen=True)
class EncodedBlob:
    """One encoding of one blob, ready to be sent."""

    recipe: Recipe
    table: PartTable
    table_bytes: bytes
    table_sha256: Digest

    @property
    def key(self) -> str:
        """The object with the encoded bytes."""
        return f"{self.recipe.key}.data"


class EncodingStore:
    """Makes encodings and keeps them. Any thread may call it."""

    def __init__(self, store: ObjectStore, blobs: Blobs) -> None:
        """Keep encodings of these blobs in `store`."""
        self._store, self._blobs = store, blobs
        self._ready: dict[Recipe, EncodedBlob] = {}
        self._making: dict[Recipe, threading.Lock] = {}
        self._guard = threading.Lock()

    def ready(self, recipe: Recipe) -> EncodedBlob | None:
        """Return an encoding if it was made before; never makes one."""
        found = self._ready.get(recipe)
        if found is not None and self._store.size(found.key) == found.table.encoded_size:
            return found
        return self._load(recipe)

    def get(self, recipe: Recipe) -> EncodedBlob:
        """Return an encoding; made now if need be, in the time that its size takes.

        Two threads that ask at once make it once. Raises InvalidError if a blob is not there or
        the encoding is not known, SpaceError if the disk is full.
        """
        if recipe.encoding not in encodings.KNOWN:
            raise InvalidError(
                "encoding", recipe.encoding, f"ask for one of {', '.join(encodings.KNOWN)}"
            )
        if (ready := self.ready(recipe)) is not None:
            return ready
        with self._guard:
            making = self._making.setdefault(recipe, threading.Lock())
        try:
            with making:
                made = self._load(recipe) or self._make(recipe)
        finally:
            with self._guard:
                self._making.pop(recipe, None)
        self._remember(made)
        return made

    def _load(self, recipe: Recipe) -> EncodedBlob | None:
        """Return what an earlier call made, if it is whole."""
        if self._store.size(f"{recipe.key}.parts") is None:
            return None
        try:
            table_bytes = b"".join(self._store.read(f"{recipe.key}.parts"))
            table = parts.decode(table_bytes)
        except InvalidError:
            return None
        if (
            table.blob != recipe.blob
            or self._store.size(f"{recipe.key}.data") != table.encoded_size
        ):
            return None
        return EncodedBlob(recipe, table, table_bytes, digests.of_bytes(table_bytes))

    def _make(self, recipe: Recipe) -> EncodedBlob:
        size, scratch = self._blobs.size(recipe.blob), self._store.scratch()
        name = f"{recipe.blob}.{os.getpid()}.{secrets.token_hex(4)}"
        data, table_path = scratch / f"{name}.data", scratch / f"{name}.parts"
        with files.explaining_full_disk(scratch, size), contextlib.ExitStack() as opened:
            opened.callback(files.remove, data)
            opened.callback(files.remove, table_path)
            source = opened.enter_context(self._blobs.local(recipe.blob))
            base = None
            if recipe.base is not None:
                base = opened.enter_context(self._blobs.local(recipe.base))
            encodings.encode(recipe.encoding, source, data, base=base)
            with data.open("rb") as encoded:
                table = parts.cut(recipe.blob, size, recipe.encoding, encoded)
            table_path.write_bytes(parts.encode(table))
            self._store.put_file(f"{recipe.key}.data", data)
            self._store.put_file(f"{recipe.key}.parts", table_path)
        made = self._load(recipe)
        if made is None:
            raise IntegrityError(f"encoding {recipe.key}", wanted="what was made", got="other")
        return made

    def _remember(self, made: EncodedBlob) -> None:
        with self._guard:
            self._ready[made.recipe] = made
            if len(self._ready) > _REMEMBERED:
                del self._ready[next(iter(self._ready))]
