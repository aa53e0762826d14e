"""What a simulation has found, as the object that `packhorse simulate --json` ends with; pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.digests import Digest
from runtime.messages import Phase
from runtime.simulated import Outcome

SHOWN_STUCK = 20


@dataclass
class Times:
    """How long things took, in seconds; what did not happen is not there."""

    total_s: float = 0.0
    acknowledged_s: dict[str, float] = field(default_factory=dict)
    """From the request for a deployment until the registry has every device's word that it is
    durable there, by "first" and "second"."""
    published_s: dict[str, float] = field(default_factory=dict)
    """The same from the moment when the desired states were stored, just before the first was
    published."""
    converged_s: dict[str, float] = field(default_factory=dict)
    """Until every device that will run it does."""


def has_converged(outcome: Outcome, wanted: Digest | None) -> bool:
    """Say whether a device ended on what it shall run: `wanted`, or what it was told (None)."""
    goal = outcome.wanted if wanted is None else wanted
    return goal is not None and outcome.running == outcome.wanted == goal


def has_refused(outcome: Outcome) -> bool:
    """Say whether a device found the bundle wanting, and runs on with the one before."""
    failed = outcome.phase == Phase.FAILED.value
    return failed and outcome.running is not None and bool(outcome.reason)


def result(
    outcomes: Sequence[Outcome], wanted: Digest | None, times: Times, *, memory_bytes: int
) -> dict[str, Any]:
    """Return the object; `memory_bytes` is what the devices' processes hold together."""
    count = max(1, len(outcomes))
    carried = sum(one.sent_bytes + one.received_bytes + one.downloaded_bytes for one in outcomes)
    found = sorted({name for one in outcomes for name in one.profiles})
    faulty = {name: [one for one in outcomes if name in one.profiles] for name in found}
    healthy = [one for one in outcomes if not one.profiles]
    stuck = [one for one in outcomes if not has_converged(one, wanted) and not has_refused(one)]
    return {
        **_some(outcomes, wanted),
        "seconds": round(times.total_s, 3),
        "messages": sum(one.messages for one in outcomes),
        "bytes_per_device": round(carried / count),
        "memory_bytes_per_device": round(memory_bytes / count),
        "acknowledged_s": _rounded(times.acknowledged_s),
        "published_s": _rounded(times.published_s),
        "converged_s": _rounded(times.converged_s),
        "healthy": _some(healthy, wanted),
        "profiles": {name: _some(some, wanted) for name, some in faulty.items()},
        "stuck_devices": [
            {"device": one.name, "phase": one.phase, "reason": one.reason}
            for one in stuck[:SHOWN_STUCK]
        ],
    }


def _some(outcomes: Collection[Outcome], wanted: Digest | None) -> dict[str, int]:
    converged = sum(has_converged(one, wanted) for one in outcomes)
    refused = sum(has_refused(one) and not has_converged(one, wanted) for one in outcomes)
    return {
        "devices": len(outcomes),
        "converged": converged,
        "refused": refused,
        "stuck": len(outcomes) - converged - refused,
        "connects": sum(one.connects for one in outcomes),
        "faults": sum(one.faults for one in outcomes),
    }


def _rounded(times: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in times.items()}
