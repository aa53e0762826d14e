"""Flash wear: bytes that agent and worker have the kernel write to the disk in an hour.

Idle and connected, then at one record a second. Measured over some minutes by `write_bytes` of
/proc/PID/io of the agent and its workers, and scaled to an hour; the registry's own writes do not
count. The kernel counts whole pages as they are made dirty, so a file system's journal and the
flash's own erase blocks come on top. Prints JSON.

With --path-only it is the way of the records alone, in this process: spool with a sync for each
record, as the worker does once a second, outbox, acknowledgement; no agent, no registry.

    python tests/benchmarks/bench_flash.py [--minutes 3] [--path-only]
"""

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.path import TelemetryPath
from edge_agent.telemetry.spool import SpoolWriter
from runtime import batches
from runtime.messages import Ack
from runtime.topics import DeviceId
from tests.support import fleets, records
from tests.support.processes import Agent

HOUR_S = 3600.0
SETTLE_S = 45.0
"""Soak time, first reports and the outbox's own clean-up are over by then."""


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=3.0)
    options.add_argument("--path-only", action="store_true")
    chosen = options.parse_args()
    span_s = chosen.minutes * 60
    if chosen.path_only:
        path_only(span_s)
        return
    tick = threading.Event()
    with fleets.fleet() as fleet:
        agent = fleet.running("flash")
        tick.wait(SETTLE_S)
        idle = per_hour(agent, lambda: tick.wait(span_s))
        asked = 0

        def one_a_second() -> None:
            nonlocal asked
            asked = every_second(span_s, lambda: agent.infer("flash", fleets.ROW))

        busy = per_hour(agent, one_a_second)
    print(  # noqa: T201 - its output is the point
        json.dumps(
            {
                "bench": "flash",
                "python": sys.version.split()[0],
                "measured_s": span_s,
                "idle_bytes_per_hour": idle,
                "records": asked,
                "at_1_record_per_s_bytes_per_hour": busy,
                "bytes_per_record": round(busy * span_s / HOUR_S / max(asked, 1)),
            }
        )
    )


def every_second(span_s: float, act: Callable[[], object]) -> int:
    """Do something once a second; return how often."""
    tick, until, count = threading.Event(), time.monotonic() + span_s, 0
    while (now := time.monotonic()) < until:
        act()
        count += 1
        tick.wait(max(0.0, 1.0 - (time.monotonic() - now)))
    return count


def path_only(span_s: float) -> None:
    """Measure the way of the records alone, and print."""
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        outbox = Outbox(place / "outbox.sqlite3")
        writer = SpoolWriter(place / "spool" / "digits")

        def publish(payload: bytes) -> None:
            header, _ = batches.unwrap(payload)
            path.on_ack(Ack(header.epoch, stored=(header.sequence,)))

        def record() -> None:
            writer.append(records.frame(records.digits(0, rng)))
            writer.sync()
            path.spooled("digits")

        path = TelemetryPath(outbox, place / "spool", publish, device=DeviceId("dev-1"))
        path.start()
        path.on_connected()
        before = of_process(os.getpid())
        count = every_second(span_s, record)
        written = of_process(os.getpid()) - before
        path.stop()
        outbox.close()
    print(  # noqa: T201 - its output is the point
        json.dumps(
            {
                "bench": "flash, path only",
                "python": sys.version.split()[0],
                "measured_s": span_s,
                "records": count,
                "at_1_record_per_s_bytes_per_hour": round(written * HOUR_S / span_s),
                "bytes_per_record": round(written / max(count, 1)),
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
    return sum(of_process(pid) for pid in (agent.pid, *(one.pid for one in agent.workers())))


def of_process(pid: int) -> int:
    """Return the same for one process."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


if __name__ == "__main__":
    main()
