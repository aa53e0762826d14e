"""Images that the agent fetches itself, layer by layer, and gives to the engine.

    index ──► manifest ──► configuration ──► which layers are missing ──► room on the disk?
        each layer:  from where it was cut, its digest compared
    all of them ──► one tar ──► the engine ──► a pull by digest, which now needs no layer

Every byte passes the bundle's valve: window, metered link, budget and rate hold as for models. The
engine's own pull at the end gives the image its name by digest, and asks for manifests alone.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edge_agent.bundles.fetch import Passage
from edge_agent.containers import cargo, loadable
from edge_agent.containers.cargo import Seen
from edge_agent.containers.enginepull import EnginePull
from edge_agent.containers.layerfiles import LayerFiles
from edge_agent.containers.logins import Logins
from edge_agent.containers.trip import Trip
from edge_agent.errors import ImageError, NoImageError
from runtime import files
from runtime.containers.client import configured_login
from runtime.containers.errors import EngineRefusedError
from runtime.containers.images import Images
from runtime.containers.specs import EngineSeen
from runtime.digests import Digest
from runtime.errors import SpaceError
from runtime.imageregistry import lines, manifests, names
from runtime.imageregistry.client import RegistryClient
from runtime.imageregistry.errors import DeniedError, ImageAnswerError, ImageRegistryError
from runtime.imageregistry.manifests import Described

log = logging.getLogger(__name__)


class Freight:
    """Brings images one after the other; for the porter's thread."""

    def __init__(
        self, directory: Path, pull: EnginePull, logins: Logins, *, reserve_bytes: int
    ) -> None:
        """Keep layers below `directory`; leave `reserve_bytes` of each disk free."""
        self._files, self._pull, self._logins = LayerFiles(directory), pull, logins
        self._reserve_bytes = reserve_bytes

    def bring(
        self,
        bundle: Digest,
        image: str,
        passage: Passage,
        progress: Callable[[int, int], None],
    ) -> None:
        """Have an image here; see Carrier."""
        images = self._pull.door.engine().images
        engine, name = images.engine(), names.parse(image)
        platform = manifests.platform_of(engine.os, engine.machine)
        insecure = lines.is_insecure(name.host) or engine.trusts_plainly(name.host)
        with self._explaining(image):
            login = self._logins.of(image) or configured_login(name.host)
            client = RegistryClient(name, login, insecure=insecure)
            with contextlib.closing(client):
                trip = Trip(client, passage, self._files, bundle)
                seen = trip.look(name.digest or name.tag, platform)
                stacks = images.stacks() if engine.completes_images else ()
                wanted = cargo.missing(seen.manifest, seen.config, stacks)
                whole = {_hex(each): each.size for each in seen.manifest.layers}
                passage.spent.whole.update(whole)
                self._require_room(bundle, wanted, engine, trip.unpacked_bytes)
                trip.bring(wanted, progress)
        self._hand_over(images, image, seen, bundle, wanted)
        self._name(image, seen, passage)
        self.discard(bundle)

    def discard(self, bundle: Digest) -> None:
        """Forget what has come of a bundle's images that are not whole."""
        self._files.discard(bundle)

    def _require_room(
        self,
        bundle: Digest,
        wanted: Sequence[Described],
        engine: EngineSeen,
        unpacked_bytes: Callable[[Described], int],
    ) -> None:
        """Raise SpaceError unless there is room for layers, packed and unpacked."""
        ours, theirs = files.make_directory(self._files.directory), Path(engine.root)
        # An engine on another machine, or behind a wall, is not ours to measure.
        seen = bool(engine.root) and theirs.is_dir()
        one_disk = seen and ours.stat().st_dev == theirs.stat().st_dev
        given = sum(each.size for each in wanted)
        packed = given - sum(self._files.came_bytes(bundle, each) for each in wanted)

        def require(unpacked: int) -> None:
            need = cargo.room(packed, given, unpacked, one_disk=one_disk)
            files.require_space(ours, need.ours + self._reserve_bytes)
            if seen and not one_disk:
                files.require_space(theirs, need.engines + self._reserve_bytes)

        try:
            require(given * cargo.LIKELY_RATIO)
        except SpaceError:
            require(sum(map(unpacked_bytes, wanted)))

    def _hand_over(
        self, images: Images, image: str, seen: Seen, bundle: Digest, wanted: Sequence[Described]
    ) -> None:
        """Give the engine what it lacks of an image."""
        layers = {each.digest: self._files.path(bundle, each) for each in wanted}
        log.info("image is unpacked", extra={"image": image, "layers": len(layers)})
        try:
            images.load(loadable.archive(seen, layers))
        except EngineRefusedError as error:
            if "no space left" in error.said:
                root = Path(images.engine().root)
                needed = cargo.LIKELY_RATIO * sum(each.size for each in wanted)
                free = files.free_bytes(root) if root.is_dir() else 0
                raise SpaceError(str(root), needed_bytes=needed, free_bytes=free) from error
            raise ImageError(f"image {image}: {error.said}") from error

    def _name(self, image: str, seen: Seen, passage: Passage) -> None:
        """Have the engine know the image by its digest, which it believes its registry alone."""
        passage.valve.room(seen.asked_bytes, least=seen.asked_bytes)
        passage.valve.lost(seen.asked_bytes)
        if came := self._pull.pull(image, passage):
            log.warning("the engine fetched layers itself", extra={"image": image, "bytes": came})

    @contextlib.contextmanager
    def _explaining(self, image: str) -> Iterator[None]:
        try:
            yield
        except DeniedError as error:
            raise ImageError(f"{error}: {self._logins.fix(image)}") from error
        except ImageAnswerError as error:  # perhaps of something on the way
            raise ImageError(f"image {image}: {error}") from error
        except ImageRegistryError as error:
            raise NoImageError(f"{error}") from error


def _hex(layer: Described) -> Digest:
    return Digest(layer.digest.partition(":")[2])
