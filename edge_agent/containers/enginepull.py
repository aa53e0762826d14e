"""Images that the engine itself pulls.

It keeps to no rate, and what it has begun is lost with a cut. The terms are asked before it begins
and while bytes come; what came is counted as the engine tells it.
"""

from collections.abc import Callable

from edge_agent.bundles.fetch import Passage
from edge_agent.containers.door import EngineDoor
from edge_agent.containers.logins import Logins
from edge_agent.errors import ImageError, NoImageError
from runtime.containers.errors import AbsentError, EngineRefusedError
from runtime.digests import Digest


class EnginePull:
    """Of one engine."""

    def __init__(self, door: EngineDoor, logins: Logins) -> None:
        """Have the engine behind `door` pull, with the device's logins."""
        self.door, self._logins = door, logins

    def bring(
        self,
        bundle: Digest,
        image: str,
        passage: Passage,
        progress: Callable[[int, int], None],
    ) -> None:
        """Have an image here; see Carrier."""
        passage.valve.room(1)
        came = self.pull(image, passage, progress)
        passage.spent.whole[bundle] = passage.spent.whole.get(bundle, 0) + came

    def discard(self, bundle: Digest) -> None:
        """Keep nothing: the engine does, or not."""

    def pull(
        self,
        image: str,
        passage: Passage,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> int:
        """Have the engine fetch what it lacks of an image; return the bytes that came.

        Raises NoImageError, ImageError, another EngineError, or what the passage raises, which ends
        the pull.
        """
        came = 0

        def count(done_bytes: int, total_bytes: int) -> None:
            nonlocal came
            # What it tells may go back when it begins a layer anew.
            passage.valve.lost(max(0, done_bytes - came))
            came = max(came, done_bytes)
            passage.valve.room(1)
            progress(done_bytes, total_bytes)

        self._pull(image, count)
        return came

    def _pull(self, image: str, count: Callable[[int, int], None]) -> None:
        credentials = self._logins.of(image)
        try:
            self.door.engine().images.pull(image, credentials, lambda _line: None, count)
        except AbsentError as error:
            # So do registries answer too that want to know first who asks.
            if "denied" not in error.said:
                raise NoImageError(f"image {image}: {error.said}") from error
            raise ImageError(f"image {image}: {error.said}: {self._logins.fix(image)}") from error
        except EngineRefusedError as error:
            hint = f": {self._logins.fix(image)}" if "auth" in error.said else ""
            raise ImageError(f"image {image}: {error.said}{hint}") from error
