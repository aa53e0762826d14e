"""The images that bundles need: pulled by digest, looked for, and removed by reference.

    {data}/containers/{bundle}.json    the images that were brought for a bundle

A note is written before its images are pulled and removed after they are, so nothing is forgotten
by an agent that is killed; and while there is none, no engine is asked for anything. All methods
are the porter's: nothing is swept while it is being brought.
"""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec

from edge_agent.bundles.fetch import Passage
from edge_agent.containers import permits, plan
from edge_agent.containers.carrier import Carrier
from edge_agent.containers.door import EngineDoor
from edge_agent.containers.permits import Permits
from runtime import files
from runtime.bundle.containers import Group
from runtime.bundle.index import Index
from runtime.containers.errors import EngineError
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

log = logging.getLogger(__name__)


class Note(msgspec.Struct, frozen=True):
    """What was pulled for a bundle; what was there before is not ours to remove."""

    pulled: tuple[str, ...] = ()


class ImageKeeper:
    """Of one agent."""

    def __init__(
        self, notes: Path, device: str, *, door: EngineDoor, permits: Permits, carrier: Carrier
    ) -> None:
        """Keep notes in a directory; ask the engine behind `door`, and have `carrier` bring."""
        self._notes, self._device = notes, device
        self._door, self._permits, self._carrier = door, permits, carrier

    def bring(
        self,
        bundle: Digest,
        index: Index,
        *,
        progress: Callable[[int, int], None],
        passage: Passage,
    ) -> None:
        """Have all images of a bundle on the device.

        Raises InvalidError for what the device's settings do not allow, and what Carrier says.
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
                log.info("image is brought", extra={"image": image})
                self._carrier.bring(bundle, image, passage, progress)

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
                self._carrier.discard(bundle)
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
