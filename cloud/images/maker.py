"""Who makes images of what the registry has: the seam between the controller and the builders."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cloud.hosting.targets import Place
from cloud.images.image import Image

Progress = Callable[[str], None]
"""Called with what is being done, in one line."""


@dataclass(frozen=True)
class Wanted:
    """An image that a revision needs."""

    place: Place
    """Where it must be possible to run it."""
    model: str
    version: int
    bundle: str
    """Digest of the bundle."""
    base_image: str | None = None
    """None: the registry's default."""
    gpus: bool = False
    """It shall use GPUs, so its default base is another one."""


class ImageMaker(Protocol):
    """Makes images where a target can run them. Methods may be called from any thread.

    What is there already is not made again. All raise cloud.hosting.errors: UnreachableError when
    waiting helps, BuildError or RefusedError when it does not.
    """

    def bundle(self, wanted: Wanted, progress: Progress) -> Image:
        """Return the image of a bundle."""
        ...

    def gateway(self, place: Place, progress: Progress) -> Image:
        """Return the image of the gateway."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
