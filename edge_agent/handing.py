"""A version that somebody brings to the device in a file: into the store, and before the mind.

Nothing is trusted: the file is read as strictly as any download, every blob is compared with its
digest, and what becomes of the bundle is decided as if the registry had asked for it.
"""

import queue
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from edge_agent import desired
from edge_agent.bundles.porter import Porter
from edge_agent.bundles.releases import Releases
from edge_agent.control import Wish
from edge_agent.errors import ControlError
from edge_agent.mind.events import Event, HandApplied, HandsAsked, News
from edge_agent.mind.states import State
from runtime import files, topics
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from runtime.bundle.archive import Archive, Manifest

OWNER_S = 60.0
"""How long the owner thread may take to answer."""


class Handing:
    """Does it for an agent at work; not the owner thread's."""

    def __init__(
        self,
        releases: Releases,
        porter: Porter,
        put: Callable[[Event | News], None],
        *,
        reserve_bytes: int,
    ) -> None:
        """`put` hands events to the owner thread; `reserve_bytes` of the disk stay free."""
        self._releases, self._porter, self._put = releases, porter, put
        self._reserve_bytes = reserve_bytes

    def take(self, wish: Wish, file: BinaryIO) -> HandApplied:
        """Have a version of the file wanted, durably; return which.

        Raises InvalidError, IntegrityError, SpaceError, or ControlError if the owner thread says
        no; what was stored is then swept away with the next garbage.
        """
        # Lazily: most agents are never told anything by hand, and it costs memory.
        from runtime.bundle.archive import Archive  # noqa: PLC0415

        archive = Archive(file)
        applied = choose(archive.manifest, wish)
        # Nothing refers to the blobs yet: the porter must not take them for garbage meanwhile.
        self._releases.pins.keep(applied.bundle, archive.needs(applied.bundle))
        try:
            bring(archive, applied, self._releases, self._reserve_bytes)
            answers: queue.SimpleQueue[str] = queue.SimpleQueue()
            self._put(HandsAsked(applied, answers.put))
            why = answers.get(timeout=OWNER_S)
        except queue.Empty:
            why = "the agent is ending, or busy: try again"
        finally:
            self._porter.unpin(applied.bundle)
        if why:
            raise ControlError(why)
        return applied


def choose(manifest: "Manifest", wish: Wish) -> HandApplied:
    """Return what a wish means; raise InvalidError if it means nothing, or several things."""
    model, _, number = (wish.version or "").partition(":")
    asked = [entry for entry in manifest.versions if entry.asked or model]
    found = [
        entry
        for entry in asked
        if model in {"", entry.model} and number in {"", str(entry.version)}
    ]
    names = ", ".join(f"{entry.model}:{entry.version}" for entry in manifest.versions[:20])
    if len(found) != 1:
        raise InvalidError("version", wish.version, f"name one of those in the file: {names}")
    entry = found[0]
    module = topics.device_id(wish.module or entry.model, "module")
    return HandApplied(module, entry.bundle, entry.model, entry.version)


def bring(archive: "Archive", applied: HandApplied, releases: Releases, reserve_bytes: int) -> None:
    """Store the blobs of a bundle that the device lacks.

    Raises SpaceError before anything is written if they do not fit, IntegrityError, with what was
    stored before left there, if the file is damaged.
    """
    missing = [digest for digest in archive.needs(applied.bundle) if not releases.blobs.has(digest)]
    needed = sum(archive.size(digest) for digest in missing)
    files.require_space(releases.downloads, needed + reserve_bytes)
    for digest in missing:
        with archive.open(digest) as stream:
            releases.blobs.put_stream(digest, stream, limit_bytes=archive.size(digest))


def require_room_for(state: State, applied: HandApplied) -> None:
    """Raise InvalidError if the device has as many modules as it may."""
    names = {module.name for module in state.modules} | {applied.module}
    if len(names) > desired.MAX_MODULES:
        raise InvalidError("module", applied.module, f"at most {desired.MAX_MODULES} modules")
