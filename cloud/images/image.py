"""What an image of a bundle is asked for, and what comes of it."""

from dataclasses import dataclass

DEFAULT_BASE = "python:3.11-slim"


@dataclass(frozen=True)
class Image:
    """An image that is there."""

    reference: str
    """What a target runs: by digest if it was pushed, else NAME:TAG of the local engine."""
    digest: str
    """Of the manifest in the image registry if it was pushed, else the engine's image id."""
    bundle: str | None
    """Digest of the bundle within; None: the gateway's image, which has none."""
    size_bytes: int = 0
    reused: bool = False
    """It was there already: nothing had to be built."""
