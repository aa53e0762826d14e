"""Who brings one image to the device's engine."""

from collections.abc import Callable
from typing import Protocol

from edge_agent.bundles.fetch import Passage
from runtime.digests import Digest


class Carrier(Protocol):
    """One way; for the porter's thread."""

    def bring(
        self,
        bundle: Digest,
        image: str,
        passage: Passage,
        progress: Callable[[int, int], None],
    ) -> None:
        """Have an image in the engine under its name by digest.

        Raises NoImageError, ImageError, LinkError, SpaceError, IntegrityError, an EngineError, or
        what the passage raises.
        """
        ...

    def discard(self, bundle: Digest) -> None:
        """Forget what has come of a bundle's images that are not whole."""
        ...
