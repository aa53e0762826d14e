"""What a decision is made from, and what it says. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud.hosting.state import State
from cloud.hosting.targets import Condition
from runtime.gateway.config import Status


@dataclass(frozen=True)
class Sight:
    """What is seen of one revision."""

    condition: Condition
    ready: int
    why: str = ""
    """Its reasons, for a person."""


@dataclass(frozen=True)
class Seen:
    """What is seen of a service."""

    known: bool
    """The target answered."""
    revisions: Mapping[int, Sight] = field(default_factory=dict)
    in_force: bool = False
    """All gateways have the newest configuration."""
    statuses: Sequence[Status] = ()
    images: frozenset[int] = frozenset()
    """Revisions whose image is there."""
    broken: Mapping[int, str] = field(default_factory=dict)
    """Revisions whose image cannot be made, and why."""
    trouble: str = ""
    """Why the target does not do what it is told."""

    def ready(self, number: int) -> bool:
        """Say whether all replicas of a revision answer."""
        found = self.revisions.get(number)
        return found is not None and found.condition is Condition.READY and found.ready > 0

    def answers(self, number: int) -> bool:
        """Say whether any replica of a revision answers."""
        found = self.revisions.get(number)
        return found is not None and found.ready > 0

    def why(self, numbers: Sequence[int]) -> str:
        """Return why revisions are not ready."""
        texts = []
        for number in numbers:
            sight = self.revisions.get(number)
            if sight is None:
                texts.append(f"r{number}: nothing is there yet")
            elif not self.ready(number):
                texts.append(f"r{number}: {sight.why or sight.condition.value}")
        return "; ".join([*texts, *([self.trouble] if self.trouble else [])])


@dataclass(frozen=True)
class Note:
    """An event that follows from a decision."""

    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Decision:
    """What comes next."""

    state: State
    notes: tuple[Note, ...] = ()
    failed: Mapping[int, str] = field(default_factory=dict)
    """Revisions that failed, and why."""
    waiting: str = ""
    """What it waits for, for a person; "" if for nothing."""
    look_in_s: float | None = None
    """When time alone changes something; None: it does not."""
