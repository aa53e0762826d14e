"""The image maker of a registry, made from its settings. Engines are connected to when used."""

from cloud.hosting.errors import BuildError
from cloud.hosting.targets import Place
from cloud.images.image import Image
from cloud.images.maker import ImageMaker, Progress, Wanted
from cloud.services import Services


class _NoMaker:
    """Stands in until images can be made here."""

    def bundle(self, _wanted: Wanted, _progress: Progress) -> Image:
        raise BuildError("images: this registry cannot build any")

    def gateway(self, _place: Place, _progress: Progress) -> Image:
        raise BuildError("images: this registry cannot build any")

    def close(self) -> None:
        """Nothing is open."""


def open_maker(_services: Services) -> ImageMaker:
    """Return what makes images."""
    return _NoMaker()
