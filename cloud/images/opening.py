"""The image maker of a registry. What it needs is heavy, so it is imported at the first image."""

import threading

from cloud.hosting.targets import Place
from cloud.images.image import Image
from cloud.images.maker import ImageMaker, Progress, Wanted
from cloud.services import Services


class _LazyMaker:
    """Makes the real one at the first image."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._made: ImageMaker | None = None

    def bundle(self, wanted: Wanted, progress: Progress) -> Image:
        """Return the image of a bundle."""
        return self._maker().bundle(wanted, progress)

    def gateway(self, place: Place, progress: Progress) -> Image:
        """Return the image of the gateway."""
        return self._maker().gateway(place, progress)

    def close(self) -> None:
        """Let go of connections."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()

    def _maker(self) -> ImageMaker:
        with self._lock:
            if self._made is None:
                # The docker package costs 0.3 s and 22 MB, which most registries never need.
                from cloud.images.registrymaker import RegistryMaker  # noqa: PLC0415

                self._made = RegistryMaker(self._services)
            return self._made


def open_maker(services: Services) -> ImageMaker:
    """Return what makes images."""
    return _LazyMaker(services)
