"""What a release shall do, and in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud import shapes
from cloud.releasing.gates import Gate
from runtime.bundle.build import Built

CHECK, REGISTER, SERVICE, VERIFY_SERVICE, PROMOTE, DEVICES, VERIFY_DEVICES, ALIAS = (
    "check",
    "register",
    "service",
    "verify service",
    "promote",
    "devices",
    "verify devices",
    "alias",
)

WHOLE = 100


@dataclass(frozen=True)
class ServiceWish:
    """Which service shall serve the version, and how."""

    name: str
    target: Mapping[str, Any] | None = None
    """Where it is made if it is not there yet; None: it must be there."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What else is asked of it, as `packhorse services update` would."""

    @property
    def waits(self) -> bool:
        """Whether the version comes to wait for somebody's word before it has all the traffic."""
        strategy = self.changes.get("strategy") or {}
        steps = strategy.get("steps") or [WHOLE]
        return strategy.get("kind") in {"blue-green", "shadow"} or steps[-1] < WHOLE


@dataclass(frozen=True)
class Plan:
    """One release."""

    built: Built
    said: shapes.Statement | None
    gates: Sequence[Gate] = ()
    service: ServiceWish | None = None
    selector: str | None = None
    """Which devices; None: none."""
    aliases: Sequence[str] = ()
    """Moved to the version once all else is true."""
    soak_s: float = 30.0
    timeout_s: float = 1800.0
    """Of the whole."""

    @property
    def steps(self) -> tuple[str, ...]:
        """What is done, in order. The service first: devices are the harder ones to take back."""
        steps = [CHECK, REGISTER]
        if self.service is not None:
            steps += [SERVICE, VERIFY_SERVICE]
            steps += [PROMOTE] if self.service.waits else []
        if self.selector is not None:
            steps += [DEVICES, VERIFY_DEVICES]
        return (*steps, ALIAS) if self.aliases else tuple(steps)
