"""The image maker of a registry: builds what its blobs hold, with the engines of its settings.

An engine is connected to when it is first needed. Images for an engine's own services are built
there; those for clusters are built by `image_builder` and pushed to `image_registry`.
"""

import io
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from cloud.hosting import engines
from cloud.hosting.errors import BuildError, RefusedError, UnreachableError
from cloud.hosting.targets import Place
from cloud.images.builder import Builder, Publishing
from cloud.images.content import Content
from cloud.images.image import DEFAULT_BASE, Image
from cloud.images.maker import Progress, Wanted
from cloud.services import Services
from cloud.storage.blobs import Blobs
from runtime.bundle import index
from runtime.bundle.index import MAX_INDEX_BYTES, FileEntry
from runtime.containers.engine import Engine
from runtime.containers.errors import EngineError, EngineUnreachableError
from runtime.digests import Digest

KUBERNETES = "kubernetes"


class RegistryMaker:
    """Implements cloud.images.maker.ImageMaker."""

    def __init__(self, services: Services) -> None:
        self._settings, self._blobs = services.settings, services.blobs
        self._lock = threading.Lock()
        self._engines: dict[str | None, Engine] = {}

    def bundle(self, wanted: Wanted, progress: Progress) -> Image:
        """Return the image of a bundle."""
        found = content(self._blobs, Digest(wanted.bundle), wanted.version)
        base = wanted.base_image or self._base
        builder = self._builder(wanted.place)
        return builder.build(found, base_image=base, gpu=wanted.gpus, progress=progress)

    def gateway(self, place: Place, progress: Progress) -> Image:
        """Return the image of the gateway."""
        return self._builder(place).gateway(base_image=self._base, progress=progress)

    def close(self) -> None:
        """Let go of the engines."""
        with self._lock:
            opened, self._engines = list(self._engines.values()), {}
        for engine in opened:
            engine.close()

    @property
    def _base(self) -> str:
        return self._settings.base_image or DEFAULT_BASE

    def _builder(self, place: Place) -> Builder:
        pushed = self._settings.image_registry
        if place.kind == KUBERNETES and pushed is None:
            raise BuildError(
                "image_registry: a cluster pulls images from one, and none is set: set "
                "PACKHORSE_IMAGE_REGISTRY, such as images.example/packhorse"
            )
        name = self._settings.image_builder if place.kind == KUBERNETES else place.host
        publishing = None if pushed is None else Publishing(pushed)
        return Builder(self._engine(name), self._settings.data / "images", publishing=publishing)

    def _engine(self, name: str | None) -> Engine:
        with self._lock:
            found = self._engines.get(name)
        if found is not None:
            return found
        try:
            made = Engine(engines.address(self._settings, name))
        except EngineUnreachableError as error:
            raise UnreachableError(str(error)) from error
        except EngineError as error:
            raise RefusedError(str(error)) from error
        with self._lock:
            kept = self._engines.setdefault(name, made)
        if kept is not made:
            made.close()
        return kept


def content(blobs: Blobs, bundle: Digest, version: int) -> Content:
    """Return a bundle whose files are read from the store as they are needed."""
    encoded = blobs.bytes_of(bundle, limit_bytes=MAX_INDEX_BYTES)

    def read(entry: FileEntry) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(_Pieces(blobs.read(Digest(entry.sha256)))))

    return Content(index.decode(encoded), encoded, version, read)


class _Pieces(io.RawIOBase):
    """What an iterator gives, as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces, self._piece = pieces, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._piece:
            following = next(self._pieces, None)
            if following is None:
                return 0
            self._piece = following
        taken = self._piece[: len(buffer)]
        buffer[: len(taken)] = taken
        self._piece = self._piece[len(taken) :]
        return len(taken)
