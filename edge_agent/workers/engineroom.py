"""Everything about containers on this device, made when the first bundle has any.

Most devices run models alone: for them nothing below edge_agent.containers is imported.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.bundles.fetch import Passage
from edge_agent.mind import events
from edge_agent.mind.events import Event, News
from edge_agent.settings import AgentSettings
from runtime.bundle.index import Index
from runtime.digests import Digest

if TYPE_CHECKING:
    from edge_agent.containers.carrier import Carrier
    from edge_agent.containers.door import EngineDoor
    from edge_agent.containers.images import ImageKeeper
    from edge_agent.containers.supervisor import ContainerSupervisor

NOTES = "containers"
LAYERS, MODULES = "layers", "modules"
"""Below the notes: what has come of images that are on their way, and who had containers."""


class EngineRoom:
    """The engine's door and those who go through it. Safe for the owner thread and the porter."""

    def __init__(
        self,
        data: Path,
        device: str,
        settings: AgentSettings,
        put: Callable[[Event | News], None],
    ) -> None:
        """Connect to nothing yet."""
        self._data, self._device, self._settings, self._put = data, device, settings, put
        self._door: EngineDoor | None = None
        self._keeper: ImageKeeper | None = None

    def supervisor(self) -> "ContainerSupervisor":
        """Return who minds containers."""
        from edge_agent.containers.supervisor import ContainerSupervisor  # noqa: PLC0415 - see above

        return ContainerSupervisor(
            self._data,
            self._device,
            notes=self._data / NOTES / MODULES,
            door=self._the_door(),
            limits=self._settings.limits,
            put=self._put,
            engine_trouble=lambda text: self._put(events.EngineTrouble(text)),
        )

    def bring(
        self,
        bundle: Digest,
        index: Index,
        *,
        progress: Callable[[int, int], None],
        passage: Callable[[], AbstractContextManager[Passage]],
    ) -> None:
        """Have a bundle's images here; see ImageKeeper."""
        if index.container is not None:
            with passage() as way:
                self._images().bring(bundle, index, progress=progress, passage=way)

    def require(self, index: Index) -> None:
        """Raise IntegrityError if an image of a bundle is gone."""
        if index.container is not None:
            self._images().require(index)

    def collect(self, keep: Collection[Digest]) -> None:
        """Remove the containers and images of all bundles but these, if there ever were any."""
        if self.was_used():
            self._images().collect(keep)

    def was_used(self) -> bool:
        """Say whether there may be anything of this device's on the engine."""
        notes = self._data / NOTES
        return any(notes.glob("*.json")) or any((notes / MODULES).glob("*"))

    def _images(self) -> "ImageKeeper":
        if self._keeper is None:
            from edge_agent.containers.images import ImageKeeper  # noqa: PLC0415 - see above
            from edge_agent.containers.permits import Permits  # noqa: PLC0415

            settings = self._settings
            self._keeper = ImageKeeper(
                self._data / NOTES,
                self._device,
                door=self._the_door(),
                carrier=self._carrier(),
                permits=Permits(
                    settings.container_roots,
                    settings.container_devices,
                    settings.container_capabilities,
                    settings.container_host_network,
                ),
            )
        return self._keeper

    def _carrier(self) -> "Carrier":
        from edge_agent.containers.enginepull import EnginePull  # noqa: PLC0415 - see above
        from edge_agent.containers.freight import Freight  # noqa: PLC0415
        from edge_agent.containers.logins import Logins  # noqa: PLC0415

        logins = Logins(self._data)
        pull = EnginePull(self._the_door(), logins)
        if self._settings.image_fetch == "engine":
            return pull
        reserve_bytes = self._settings.reserve_mb << 20
        return Freight(self._data / NOTES / LAYERS, pull, logins, reserve_bytes=reserve_bytes)

    def _the_door(self) -> "EngineDoor":
        if self._door is None:
            from edge_agent.containers.door import EngineDoor  # noqa: PLC0415 - see above

            self._door = EngineDoor(self._settings.engine_url)
        return self._door
