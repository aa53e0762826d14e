"""A simulated fleet under every fault profile, one after the other and all at once.

    python tests/benchmarks/faults_fleet.py [--devices 1000] [--fraction 0.3] [--only cut,mixture]

Prints a row for each, and exits with 1 if a device was stuck or without a version at the end, or
told the end of a deployment never or more than once, or if a record was lost or stored twice.
`final reports` are pairs of device and deployment; `happened` is how often something of the profile
did; `connects per s` are the most that any blow to the whole fleet led to.
"""

import argparse
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cloud.simulation import weather
from cloud.simulation.run import Wish, run
from runtime import simulated

MIXTURE = "mixture"
MIXED = 0.08
RECORDS_PER_S = 0.02
COLUMNS = (
    "faults", "devices", "converged", "refused", "stuck", "without version", "final reports",
    "records", "happened", "connects per s", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One row."""

    name: str
    profiles: dict[str, float]
    restarts: tuple[str, ...] = ()


def cases(fraction: float) -> Iterator[Case]:
    """Return every profile, every restart, and all at once."""
    for profile in simulated.PROFILES:
        yield Case(profile, {profile: fraction})
    for what in weather.RESTARTS:
        yield Case(f"{what} restart", {}, (what,))
    yield Case(MIXTURE, dict.fromkeys(simulated.PROFILES, MIXED), weather.RESTARTS)


def complaints(found: dict[str, Any]) -> list[str]:
    """Return what must not be."""
    finals, records = found["final_reports"], found["records"]
    refusing = found["profiles"].get(simulated.FAILING_CHECK, {"devices": 0})["devices"]
    counts = {
        "devices stuck": found["stuck"],
        "devices without a version": found["without_version"],
        "devices that refuse it and should not": found["refused"] - refusing,
        "ends never told": finals["never"],
        "ends told more than once": finals["more"],
        "records lost": records["lost"],
        "records stored twice": records["twice"],
        "profiles of which nothing happened": sum(
            not some["faults"].get(name) for name, some in found["profiles"].items()
        ),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def row(case: Case, found: dict[str, Any]) -> list[str]:
    """Return the cells of a case."""
    finals, records = found["final_reports"], found["records"]
    happened = sum(found["faults"].values()) + len(case.restarts)
    rates = [blow["most_connects_per_s"] for blow in found["blows"]]
    return [
        case.name,
        f"{found['devices']:,}",
        f"{found['converged']:,}",
        f"{found['refused']:,}",
        f"{found['stuck']:,}",
        f"{found['without_version']:,}",
        f"{finals['once']:,} once, {finals['never']} never, {finals['more']} more",
        f"{records['stored']:,} of {records['made']:,}, {records['twice']} twice",
        f"{happened:,}",
        f"{max(rates):,}" if rates else "-",
        f"{found['seconds']:.0f}",
    ]


def say(cells: list[str] | tuple[str, ...]) -> None:
    """Print a row of the table."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Say how far it is."""
    sys.stderr.write(text + "\n")


def main() -> int:
    """Run all; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--fraction", type=float, default=0.3)
    parser.add_argument("--timeout", type=float, default=900.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names of rows, with commas between")
    chosen = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # so that nothing is left of what runs
        signal.signal(number, signal.default_int_handler)
    only = set(filter(None, chosen.only.split(",")))
    bad = []
    say(COLUMNS)
    say(["---"] * len(COLUMNS))
    for case in cases(chosen.fraction):
        if only and case.name not in only:
            continue
        wish = Wish(
            devices=chosen.devices,
            profiles=case.profiles,
            seed=chosen.seed,
            restarts=case.restarts,
            records_per_s=RECORDS_PER_S,
            timeout_s=chosen.timeout,
        )
        found = run(wish, tell)
        say(row(case, found))
        bad += [f"{case.name}: {each}" for each in complaints(found)]
    for each in bad:
        tell(each)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
