"""Devices that run containers: a real agent, and the engine that it uses."""

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path

from edge_agent.containers import plan
from edge_agent.containers.plan import Origin
from runtime.bundle.build import build
from runtime.containers.engine import Engine
from runtime.containers.specs import Address, ContainerSeen
from runtime.digests import Digest
from runtime.messages import ModuleReport, Phase
from tests.support import engines, smallimages
from tests.support.agents import Device

_NUMBERS = itertools.count(1)


class Box:
    """A device that runs containers, under a module name of its own: the engine is shared."""

    def __init__(self, device: Device, engine: Engine, images: dict[str, str]) -> None:
        self.device, self.engine, self.images = device, engine, images
        self.module = f"m{next(_NUMBERS)}-{device.directory.name[-6:].lower().replace('_', 'x')}"

    def bundle(
        self,
        name: str,
        text: str,
        *,
        top: str = "",
        trial_s: float = 0.5,
        image: str | None = None,
        write: str = "",
    ) -> Path:
        """Write a bundle; `write` instead of one container's text is the whole of it."""
        place = smallimages.write(
            self.device.directory / name,
            name=f"{self.module}-{name}",
            text=text,
            top=top,
            trial_s=trial_s,
            image=image or self.images["1"],
        )
        if write:
            (place / "bundle.yaml").write_text(f"name: {self.module}\nkind: container\n{write}")
        return place

    def want(self, bundle: Path, **fields: object) -> None:
        self.device.want(bundle, module=self.module, **fields)

    def run(self, bundle: Path, **fields: object) -> None:
        """Have a bundle wanted, and wait until it runs."""
        self.want(bundle, **fields)
        self.device.until_running(bundle, name=self.module)

    def containers(self) -> list[ContainerSeen]:
        """Return what there is of this module."""
        return list(self.engine.containers({plan.MODULE: self.module}))

    @property
    def origin(self) -> Origin:
        """Whose its volumes are."""
        return Origin("dev-a", self.module, Digest("0" * 64), "")

    def volumes(self) -> dict[str, dict[str, str]]:
        """Return the labels of this module's volumes, by name."""
        return self.engine.volumes({plan.MODULE: self.module})

    def running(self, bundle: Path) -> list[ContainerSeen]:
        """Return what runs of a bundle."""
        digest = build(bundle).digest
        return [
            seen
            for seen in self.containers()
            if seen.running and seen.labels[plan.BUNDLE] == digest
        ]

    def troubles(self) -> str:
        """Return what a person should look at."""
        return "; ".join(self.device.status().troubles)

    def told(self) -> ModuleReport:
        return self.device.module(self.module)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        self.device.until(holds, what)

    def failed(self, bundle: Path) -> str:
        """Wait until a bundle is refused; return why."""
        digest = build(bundle).digest
        said: list[str] = []

        def failed() -> bool:
            told = self.told()  # once: the next may speak of another bundle
            if told.phase is Phase.FAILED and told.bundle == digest:
                said.append(told.reason)
            return bool(said)

        self.until(failed, "it failed")
        return said[0]

    def clear(self) -> None:
        """Leave nothing on the engine."""
        clear(self.engine, self.module)


def clear(engine: Engine, module: str) -> None:
    """Leave nothing of a module on an engine, once no agent starts it anew."""
    labels = {plan.MODULE: module}
    for seen in engine.containers(labels):
        engine.remove(seen.id)
    for network in engine.networks(labels):
        engine.remove_network(network)
    for volume in engine.volumes(labels):
        engine.remove_volume(volume)


def clear_shared(module: str) -> None:
    """Do so on the engine that tests share, if it runs."""
    rig = engines.place()
    if rig.pid is None:
        return
    with contextlib.closing(Engine(Address(rig.url))) as engine:
        clear(engine, module)
