"""Flash wear: bytes that agent and worker have the kernel write to the disk in an hour.

Idle and connected, then at one record a second. Measured over some minutes by `write_bytes` of
/proc/PID/io of the agent and its workers, and scaled to an hour; the registry's own writes do not
count. The kernel counts whole pages as they are made dirty, so a file system's journal and the
flash's own erase blocks come on top. Prints JSON.

    python tests/benchmarks/bench_flash.py [--minutes 3]
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import fleets
from tests.support.processes import Agent

HOUR_S = 3600.0
SETTLE_S = 45.0
"""Soak time, first reports and the outbox's own clean-up are over by then."""


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=3.0)
    span_s = options.parse_args().minutes * 60
    tick = threading.Event()
    with fleets.fleet() as fleet:
        agent = fleet.running("flash")
        tick.wait(SETTLE_S)
        idle = per_hour(agent, lambda: tick.wait(span_s))
        records = 0

        def one_a_second() -> None:
            nonlocal records
            until = time.monotonic() + span_s
            while (now := time.monotonic()) < until:
                agent.infer("flash", fleets.ROW)
                records += 1
                tick.wait(max(0.0, 1.0 - (time.monotonic() - now)))

        busy = per_hour(agent, one_a_second)
    print(  # noqa: T201 - its output is the point
        json.dumps(
            {
                "bench": "flash",
                "python": sys.version.split()[0],
                "measured_s": span_s,
                "idle_bytes_per_hour": idle,
                "records": records,
                "at_1_record_per_s_bytes_per_hour": busy,
                "bytes_per_record": round(busy * span_s / HOUR_S / max(records, 1)),
            }
        )
    )


def per_hour(agent: Agent, work: Callable[[], object]) -> int:
    """Return the bytes written while `work()` is done, scaled to an hour."""
    before, started = written_bytes(agent), time.monotonic()
    work()
    spent_s = time.monotonic() - started
    return round((written_bytes(agent) - before) * HOUR_S / spent_s)


def written_bytes(agent: Agent) -> int:
    """Return what agent and workers have had sent to the disk, by the kernel's account."""
    total = 0
    for pid in [agent.pid, *(worker.pid for worker in agent.workers())]:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))
    return total


if __name__ == "__main__":
    main()
