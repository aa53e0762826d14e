"""Images of what a registry has, built where a target can run them.

docker       built by that very engine, and pushed only if there is an image registry
kubernetes   built by the engine `image_builder`, and pushed: the nodes pull
"""

import io
import threading
from typing import BinaryIO

from cloud.hosting import engines
from cloud.hosting.errors import BuildError
from cloud.hosting.targets import Place
from cloud.images.builder import Builder, Publishing
from cloud.images.content import Content
from cloud.images.image import DEFAULT_BASE, Image
from cloud.images.maker import Progress, Wanted
from cloud.services import Services
from runtime.bundle import index as bundle_index
from runtime.bundle.index import MAX_INDEX_BYTES, FileEntry
from runtime.containers.engine import Engine
from runtime.digests import Digest


class RegistryMaker:
    """Implements cloud.images.maker.ImageMaker. Engines are connected to when first used."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._builders: dict[str | None, tuple[Engine, Builder]] = {}

    def bundle(self, wanted: Wanted, progress: Progress) -> Image:
        """Return the image of a bundle."""
        content = self._content(wanted)
        return self._builder(wanted.place).build(
            content,
            base_image=wanted.base_image or self._base,
            gpu=wanted.gpus,
            progress=progress,
        )

    def gateway(self, place: Place, progress: Progress) -> Image:
        """Return the image of the gateway."""
        return self._builder(place).gateway(base_image=self._base, progress=progress)

    def close(self) -> None:
        """Let go of connections."""
        with self._lock:
            opened, self._builders = list(self._builders.values()), {}
        for engine, _builder in opened:
            engine.close()

    @property
    def _base(self) -> str:
        return self._services.settings.base_image or DEFAULT_BASE

    def _builder(self, place: Place) -> Builder:
        settings = self._services.settings
        publishing = None
        if settings.image_registry is not None:
            publishing = Publishing(settings.image_registry)
        elif place.kind == "kubernetes":
            raise BuildError(
                "images: a cluster pulls its images: set image_registry to where they are pushed"
            )
        name = place.host if place.kind == "docker" else settings.image_builder
        with self._lock:
            if name not in self._builders:
                engine = engines.connect(settings, name)
                work = settings.data / "images"
                self._builders[name] = (engine, Builder(engine, work, publishing=publishing))
            return self._builders[name][1]

    def _content(self, wanted: Wanted) -> Content:
        blobs = self._services.blobs
        encoded = blobs.bytes_of(Digest(wanted.bundle), limit_bytes=MAX_INDEX_BYTES)
        return Content(bundle_index.decode(encoded), encoded, wanted.version, self._open)

    def _open(self, entry: FileEntry) -> BinaryIO:
        return io.BufferedReader(_Blob(self._services, entry))


class _Blob(io.RawIOBase):
    """A blob of the registry as a file that is read once, from its beginning."""

    def __init__(self, services: Services, entry: FileEntry) -> None:
        super().__init__()
        self._pieces = services.blobs.read(entry.sha256)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Say that it is for reading."""
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override] # as io has it
        """Fill a buffer as far as the next piece goes; 0 at the end."""
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
