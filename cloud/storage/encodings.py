"""Blobs as they travel, kept once made: encoded bytes and their part table.

encodings/zstd/ab/abcdef….data     the encoded bytes
encodings/zstd/ab/abcdef….parts    their part table, written last: both are there, or neither
encodings/patch/ab/abcdef….BASE.data, .parts    for receivers that hold the blob BASE
"""

import contextlib
import os
import re
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from cloud.storage.blobs import Blobs
from cloud.storage.objects import ObjectStore
from runtime import digests, files
from runtime.bundle import encodings, parts
from runtime.bundle.delta import format as delta_format
from runtime.bundle.delta.format import Header
from runtime.bundle.parts import PartTable
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

ROOT = "encodings/"
AUTO = "auto"
"""For whichever encoding with a base is smallest; what is made is stored under its own name."""
_REMEMBERED = 256
_KEY = re.compile(
    re.escape(ROOT) + r"([a-z0-9-]+)/[0-9a-f]{2}/([0-9a-f]{64})(?:\.([0-9a-f]{64}))?\.(data|parts)"
)


class Encode(Protocol):
    """What `runtime.bundle.encodings.encode` does, here or elsewhere."""

    def __call__(
        self, encoding: str, source: Path, target: Path, *, base: Path | None = None
    ) -> None:
        """Durably write `source`, encoded, to `target`."""
        ...


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

    @property
    def table_key(self) -> str:
        """The object with the part table."""
        return f"{self.recipe.key}.parts"


@dataclass(frozen=True)
class StoredEncoding:
    """What an encoding takes of the store."""

    recipe: Recipe
    size_bytes: int
    """Of encoded bytes and part table, as far as they are there."""
    made_at: float
    """Seconds since 1970."""


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

    def get(self, recipe: Recipe, *, encode: Encode = encodings.encode) -> EncodedBlob:
        """Return an encoding; made now if need be, in the time that its size takes.

        AUTO is always made. Two threads that ask at once make it once. Raises InvalidError if a
        blob is not there or the encoding is not known, SpaceError if the disk is full, and what
        `encode` raises.
        """
        if recipe.encoding not in {AUTO, *encodings.KNOWN}:
            raise InvalidError(
                "encoding", recipe.encoding, f"ask for one of {', '.join(encodings.KNOWN)}"
            )
        if (ready := self.ready(recipe)) is not None:
            return ready
        with self._guard:
            making = self._making.setdefault(recipe, threading.Lock())
        try:
            with making:
                made = self._load(recipe) or self._make(recipe, encode)
        finally:
            with self._guard:
                self._making.pop(recipe, None)
        self._remember(made)
        return made

    def delete(self, recipe: Recipe) -> None:
        """Forget an encoding; one that is not there is fine."""
        with self._guard:
            self._ready.pop(recipe, None)
        # The table first: what a kill in between leaves is no encoding, and listed all the same.
        self._store.delete(f"{recipe.key}.parts")
        self._store.delete(f"{recipe.key}.data")

    def stored(self) -> Iterator[StoredEncoding]:
        """Yield all that is there, in any order; also what was never finished."""
        found: dict[Recipe, StoredEncoding] = {}
        for each in self._store.list(ROOT):
            parsed = _KEY.fullmatch(each.key)
            if parsed is None:
                continue
            encoding, blob, base, _ = parsed.groups()
            recipe = Recipe(Digest(blob), encoding, Digest(base) if base else None)
            before = found.get(recipe, StoredEncoding(recipe, 0, 0.0))
            size_bytes = before.size_bytes + each.size
            made_at = max(before.made_at, each.modified_at)
            found[recipe] = StoredEncoding(recipe, size_bytes, made_at)
        yield from found.values()

    def _load(self, recipe: Recipe) -> EncodedBlob | None:
        """Return what an earlier call made, if it is whole."""
        if self._store.size(f"{recipe.key}.parts") is None:
            return None
        try:
            table_bytes = b"".join(self._store.read(f"{recipe.key}.parts"))
            table = parts.decode(table_bytes)
        except InvalidError:
            return None
        if (table.blob, table.encoding) != (recipe.blob, recipe.encoding) or self._store.size(
            f"{recipe.key}.data"
        ) != table.encoded_size:
            return None
        return EncodedBlob(recipe, table, table_bytes, digests.of_bytes(table_bytes))

    def _make(self, recipe: Recipe, encode: Encode) -> EncodedBlob:
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
            encode(recipe.encoding, source, data, base=base)
            if recipe.encoding == AUTO:
                recipe = replace(recipe, encoding=_header(data).encoding)
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


def _header(encoded: Path) -> Header:
    with encoded.open("rb") as file:
        return delta_format.read_header(delta_format.Source(file))
