"""Flash wear: bytes that agent and worker have the kernel write to the disk in an hour.

Idle and connected, then at one record a second. Measured over some minutes, with the settings that
a device has, and scaled to an hour, in two ways: by `write_bytes` of /proc/PID/io of the agent and
its workers, which counts whole pages as they are made dirty; and, for root, by what arrives at the
block device below an ext4 that holds the agent's data alone, journal included. The flash's own
erase blocks come on top. Prints JSON.

With --path-only it is the way of the records alone, in this process: spool, outbox,
acknowledgement; no agent, no registry.

    python tests/benchmarks/bench_flash.py [--minutes 3] [--path-only]
"""

import argparse
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge_agent.settings import AgentSettings
from edge_agent.telemetry import batcher
from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.path import TelemetryPath
from edge_agent.telemetry.spool import SpoolWriter
from runtime import batches
from runtime.messages import Ack
from runtime.topics import DeviceId
from tests.support import filesystems, fleets, records
from tests.support.filesystems import Disk
from tests.support.processes import Agent

HOUR_S = 3600.0
SETTLE_S = 45.0
"""Soak time, first reports and the outbox's own clean-up are over by then."""
WARM_RECORDS = 250

SETTINGS = {
    "PACKHORSE_AGENT_FLUSH_S": str(batcher.FLUSH_S),
    "PACKHORSE_AGENT_HEARTBEAT_S": str(AgentSettings().heartbeat_s),
}
"""What a device has by itself; tests are in a hurry."""


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=3.0)
    options.add_argument("--path-only", action="store_true")
    chosen = options.parse_args()
    span_s = chosen.minutes * 60
    with filesystems.disk(megabytes=512) as disk:
        measured = path_only(disk, span_s) if chosen.path_only else whole(disk, span_s)
    print(json.dumps({"python": sys.version.split()[0], "measured_s": span_s} | measured))  # noqa: T201 - its output is the point


def whole(disk: Disk, span_s: float) -> dict[str, object]:
    """Measure an agent and its worker, idle and then not."""
    tick = threading.Event()
    with fleets.fleet() as fleet:
        agent = fleet.running("flash", data=disk.place / "agent", settings=SETTINGS)
        tick.wait(SETTLE_S)
        idle = per_hour(disk, lambda: written_bytes(agent), lambda: tick.wait(span_s))
        busy = per_hour(
            disk,
            lambda: written_bytes(agent),
            lambda: every_second(span_s, lambda: agent.infer("flash", fleets.ROW)),
        )
        agent.stop()
    return {"bench": "flash", "idle": idle, "at_1_record_per_s": busy}


def every_second(span_s: float, act: Callable[[], object]) -> int:
    """Do something once a second; return how often."""
    tick, until, count = threading.Event(), time.monotonic() + span_s, 0
    while (now := time.monotonic()) < until:
        act()
        count += 1
        tick.wait(max(0.0, 1.0 - (time.monotonic() - now)))
    return count


def path_only(disk: Disk, span_s: float) -> dict[str, object]:
    """Measure the way of the records alone."""
    rng = random.Random(1)
    outbox = Outbox(disk.place / "outbox.sqlite3")
    writer = SpoolWriter(disk.place / "spool" / "digits")

    def publish(payload: bytes) -> None:
        header, _ = batches.unwrap(payload)
        path.on_ack(Ack(header.epoch, stored=(header.sequence,)))

    def record() -> None:
        writer.append(records.frame(records.digits(0, rng)))
        path.spooled("digits")

    path = TelemetryPath(outbox, disk.place / "spool", publish, device=DeviceId("dev-1"))
    path.start()
    path.on_connected()
    for _ in range(WARM_RECORDS):  # until the outbox's log has the size that it keeps
        record()
        path.drain("digits")
    written = per_hour(disk, lambda: of_process(os.getpid()), lambda: every_second(span_s, record))
    path.stop()
    outbox.close()
    writer.close()
    return {"bench": "flash, path only", "at_1_record_per_s": written}


def per_hour(
    disk: Disk, by_processes: Callable[[], int], work: Callable[[], object]
) -> dict[str, int]:
    """Return the bytes written while `work()` is done, scaled to an hour."""
    processes_before, disk_before, started = by_processes(), disk.written_bytes(), time.monotonic()
    work()
    scale = HOUR_S / (time.monotonic() - started)
    return {
        "processes_bytes_per_hour": round((by_processes() - processes_before) * scale),
        "device_bytes_per_hour": round((disk.written_bytes() - disk_before) * scale),
    }


def written_bytes(agent: Agent) -> int:
    """Return what agent and workers have had sent to the disk, by the kernel's account."""
    return sum(of_process(pid) for pid in (agent.pid, *(one.pid for one in agent.workers())))


def of_process(pid: int) -> int:
    """Return the same for one process."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


if __name__ == "__main__":
    main()
