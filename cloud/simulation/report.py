"""What a simulation has found, as the object that `packhorse simulate --json` ends with; pure."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
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
    durable there, by "first", "second" and so on."""
    published_s: dict[str, float] = field(default_factory=dict)
    """The same from the moment when the desired states were stored, just before the first was
    published."""
    converged_s: dict[str, float] = field(default_factory=dict)
    """Until every device that will run it does."""


@dataclass(frozen=True)
class Books:
    """What the registry has in its database; only of one that is the simulation's own."""

    deployments: Sequence[str]
    finals: Mapping[tuple[str, str], int]
    """How often a device told the end of a deployment."""
    records: Mapping[str, tuple[int, int]]
    """How many records of a device are stored, and how many different ones."""


def has_converged(outcome: Outcome, wanted: Digest | None) -> bool:
    """Say whether a device ended on what it shall run: `wanted`, or what it was told (None)."""
    goal = outcome.wanted if wanted is None else wanted
    return goal is not None and outcome.running == outcome.wanted == goal


def has_refused(outcome: Outcome) -> bool:
    """Say whether a device found the bundle wanting, and runs on with the one before."""
    failed = outcome.phase == Phase.FAILED.value
    return failed and outcome.running is not None and bool(outcome.reason)


def result(
    outcomes: Sequence[Outcome],
    wanted: Digest | None,
    times: Times,
    books: Books | None = None,
    *,
    memory_bytes: int,
) -> dict[str, Any]:
    """Return the object; `memory_bytes` is what the devices' processes hold together."""
    count = max(1, len(outcomes))
    carried = sum(one.sent_bytes + one.received_bytes + one.downloaded_bytes for one in outcomes)
    found = sorted({name for one in outcomes for name in one.profiles})
    faulty = {name: [one for one in outcomes if name in one.profiles] for name in found}
    healthy = [one for one in outcomes if not one.profiles]
    stuck = [one for one in outcomes if not has_converged(one, wanted) and not has_refused(one)]
    return {
        **_some(outcomes, wanted, books),
        "seconds": round(times.total_s, 3),
        "messages": sum(one.messages for one in outcomes),
        "bytes_per_device": round(carried / count),
        "memory_bytes_per_device": round(memory_bytes / count),
        "acknowledged_s": _rounded(times.acknowledged_s),
        "published_s": _rounded(times.published_s),
        "converged_s": _rounded(times.converged_s),
        "healthy": _some(healthy, wanted, books),
        "profiles": {name: _some(some, wanted, books) for name, some in faulty.items()},
        "stuck_devices": [
            {
                "device": one.name,
                "profiles": one.profiles,
                "phase": one.phase,
                "reason": one.reason,
            }
            for one in stuck[:SHOWN_STUCK]
        ],
    }


def is_good(found: Mapping[str, Any]) -> bool:
    """Say whether every device ended on what it shall run, and all that it told arrived once."""
    finals, records = found["final_reports"], found["records"]
    told_once = finals is None or not (finals["never"] or finals["more"])
    kept = not (records["lost"] or records["twice"] or records["waiting"])
    return bool(found["converged"] == found["devices"]) and told_once and kept


def _some(
    outcomes: Collection[Outcome], wanted: Digest | None, books: Books | None
) -> dict[str, Any]:
    converged = sum(has_converged(one, wanted) for one in outcomes)
    refused = sum(has_refused(one) and not has_converged(one, wanted) for one in outcomes)
    faults: Counter[str] = Counter()
    for one in outcomes:
        faults.update(one.faults)
    return {
        "devices": len(outcomes),
        "converged": converged,
        "refused": refused,
        "stuck": len(outcomes) - converged - refused,
        "without_version": sum(one.running is None for one in outcomes),
        "final_reports": None if books is None else _finals(outcomes, books),
        "connects": sum(one.connects for one in outcomes),
        "faults": dict(sorted(faults.items())),
        "records": _records(outcomes, books),
    }


def _finals(outcomes: Collection[Outcome], books: Books) -> dict[str, int]:
    """Return how many pairs of device and deployment had one end told, none, and more."""
    counts = [
        books.finals.get((one.name, deployment), 0)
        for one in outcomes
        for deployment in books.deployments
    ]
    return {
        "once": counts.count(1),
        "never": counts.count(0),
        "more": sum(count > 1 for count in counts),
    }


def _records(outcomes: Collection[Outcome], books: Books | None) -> dict[str, int | None]:
    made = sum(one.records for one in outcomes)
    waiting = sum(one.records_waiting for one in outcomes)
    dropped = sum(one.records_dropped for one in outcomes)
    told = {"made": made, "dropped": dropped, "waiting": waiting}
    if books is None:
        return {**told, "stored": None, "lost": None, "twice": None}
    stored = [books.records.get(one.name, (0, 0)) for one in outcomes]
    different = sum(each[1] for each in stored)
    return {
        **told,
        "stored": different,
        "lost": max(0, made - waiting - different),
        "twice": sum(each[0] for each in stored) - different,
    }


def _rounded(times: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in times.items()}
