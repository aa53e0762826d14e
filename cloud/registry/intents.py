"""Which deployment decides what a module of a device runs. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cloud.registry import selectors
from runtime.messages import ModuleSpec


@dataclass(frozen=True)
class Target:
    """A device, as far as selection goes."""

    id: str
    labels: Mapping[str, str]
    facts: Mapping[str, str]
    revoked: bool = False

    @property
    def attributes(self) -> dict[str, str]:
        """What selectors see: facts, labels over them, and the id as `device`."""
        return {**self.facts, **self.labels, "device": self.id}


@dataclass(frozen=True)
class Intent:
    """An active deployment: `spec`, on every device that `selector` matches."""

    sequence: int
    """The highest wins."""
    selector: str
    spec: ModuleSpec

    def selects(self, device: Target) -> bool:
        """Say whether this deployment wants the device, be it outdone by a newer one or not."""
        return not device.revoked and selectors.parse(self.selector).matches(device.attributes)


def winners(device: Target, deployments: Iterable[Intent]) -> dict[str, Intent]:
    """Return for each module the newest deployment that selects the device."""
    won: dict[str, Intent] = {}
    for intent in deployments:
        present = won.get(intent.spec.name)
        newer = present is None or intent.sequence > present.sequence
        if newer and intent.selects(device):
            won[intent.spec.name] = intent
    return won


def desired_for(device: Target, deployments: Iterable[Intent]) -> tuple[ModuleSpec, ...]:
    """Return what the device shall run, modules in the order of their names."""
    won = winners(device, deployments)
    return tuple(won[module].spec for module in sorted(won))
