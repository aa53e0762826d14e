"""The images that bundles need: pulled by digest, looked for, and removed by reference.

    {data}/containers/{bundle}.json    the images that were pulled for a bundle

A note is written before its images are pulled and removed after they are, so nothing is forgotten
by an agent that is killed; and while there is none, no engine is asked for anything. All methods
are the porter's: nothing is swept while it is being brought.
"""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec

from edge_agent.bundles.patience import FetchCancelledError
from edge_agent.containers import permits, plan
from edge_agent.containers.door import EngineDoor
from edge_agent.containers.logins import Logins
from edge_agent.containers.permits import Permits
from edge_agent.errors import ImageError, NoImageError
from runtime import files
from runtime.bundle.containers import Group
from runtime.bundle.index import Index
from runtime.containers.errors import AbsentError, EngineError, EngineRefusedError
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

log = logging.getLogger(__name__)


class Note(msgspec.Struct, frozen=True):
    """What was pulled for a bundle; what was there before is not ours to remove."""

    pulled: tuple[str, ...] = ()


class ImageKeeper:
    """Of one agent."""

    def __init__(
        self, notes: Path, device: str, *, door: EngineDoor, permits: Permits, logins: Logins
    ) -> None:
        """Keep notes in a directory; ask the engine behind `door`."""
        self._notes, self._device = notes, device
        self._door, self._permits, self._logins = door, permits, logins

    def bring(
        self,
        bundle: Digest,
        index: Index,
        *,
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Have all images of a bundle on the device.

        Raises InvalidError for what the device's settings do not allow, NoImageError for an image
        that the image registry does not have, ImageError or an EngineError for what may work
        another time, FetchCancelledError.
        """
        if index.container is None:
            return
        permits.require(index.container, self._permits)
        engine, note = self._door.engine(), self._read(bundle)
        with self._letting_go():
            missing = [image for image in _images(index.container) if not engine.images.find(image)]
            note = Note(tuple(dict.fromkeys((*note.pulled, *missing))))
            self._write(bundle, note)
            for image in missing:
                self._pull(image, progress, cancelled)

    def require(self, index: Index) -> None:
        """Raise IntegrityError if an image is gone; that of a bundle without any is not."""
        if index.container is None:
            return
        engine = self._door.engine()
        with self._letting_go():
            for image in _images(index.container):
                if engine.images.find(image) is None:
                    raise IntegrityError(f"image {image}", wanted="to be here", got="nothing")

    def collect(self, keep: Collection[Digest]) -> None:
        """Remove containers and images of all bundles but these; what cannot be is next time."""
        notes = {Digest(path.stem): path for path in self._notes.glob("*.json")}
        needed = {
            image for bundle in notes if bundle in keep for image in self._read(bundle).pulled
        }
        for bundle, path in notes.items():
            if bundle in keep:
                continue
            try:
                with self._letting_go():
                    self._remove(bundle, needed)
                path.unlink(missing_ok=True)
            except (EngineError, InvalidError) as error:
                log.info("images stay", extra={"bundle": bundle, "reason": str(error)})

    def _remove(self, bundle: Digest, needed: Collection[str]) -> None:
        engine = self._door.engine()
        labels = {plan.DEVICE: self._device, plan.BUNDLE: bundle}
        for seen in engine.containers(labels):
            engine.remove(seen.id)
        for network in engine.networks(labels):
            engine.remove_network(network)
        for image in self._read(bundle).pulled:
            if image not in needed:
                engine.images.remove(image)
                log.info("image removed", extra={"image": image})

    def _pull(
        self, image: str, progress: Callable[[int, int], None], cancelled: Callable[[], bool]
    ) -> None:
        def count(done_bytes: int, total_bytes: int) -> None:
            if cancelled():
                raise FetchCancelledError
            progress(done_bytes, total_bytes)

        log.info("image is pulled", extra={"image": image})
        credentials = self._logins.of(image)
        try:
            self._door.engine().images.pull(image, credentials, lambda _line: None, count)
        except AbsentError as error:
            # So do registries answer too that want to know first who asks.
            if "denied" not in error.said:
                raise NoImageError(f"image {image}: {error.said}") from error
            raise ImageError(f"image {image}: {error.said}: {self._logins.fix(image)}") from error
        except EngineRefusedError as error:
            hint = f": {self._logins.fix(image)}" if "auth" in error.said else ""
            raise ImageError(f"image {image}: {error.said}{hint}") from error

    @contextlib.contextmanager
    def _letting_go(self) -> Iterator[None]:
        """Make a new connection the next time if this one breaks."""
        try:
            yield
        except EngineError as error:
            if error.retryable:
                self._door.drop()
            raise

    def _read(self, bundle: Digest) -> Note:
        try:
            return msgspec.json.decode((self._notes / f"{bundle}.json").read_bytes(), type=Note)
        except (FileNotFoundError, msgspec.DecodeError):
            return Note()

    def _write(self, bundle: Digest, note: Note) -> None:
        path = files.make_directory(self._notes) / f"{bundle}.json"
        if not path.exists() or self._read(bundle) != note:
            files.write_atomic(path, msgspec.json.encode(note))


def _images(group: Group) -> list[str]:
    return list(dict.fromkeys(each.image for each in group.containers))
