"""Resident memory of the agent's supervisor, idle and connected, against what it cannot do without.

The other side imports `ssl, sqlite3, paho.mqtt.client, zstandard` and waits. Both run in this run,
with the same Python; the agent has one model running in a worker of its own, which does not count.
Goal: agent / imports <= 1.25. Prints JSON.

    python tests/benchmarks/bench_agent_memory.py [--rounds 3] [--quiet-s 12]
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge_agent.workers import memory
from runtime import children
from tests.support import fleets, processes
from tests.support.fleets import Fleet

GOAL = 1.25
IMPORTS = "import ssl, sqlite3, paho.mqtt.client, zstandard"
WAIT = "import sys; sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()"


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--quiet-s", type=float, default=12.0)
    chosen = options.parse_args()
    agents, imports = [], []
    with fleets.fleet() as fleet:
        for number in range(chosen.rounds):
            imports.append(of_imports())
            agents.append(of_agent(fleet, f"idle-{number}", chosen.quiet_s))
    ours, bare = statistics.median(agents), statistics.median(imports)
    ratio = ours / bare
    print(  # noqa: T201 - its output is the point
        json.dumps(
            {
                "bench": "agent_memory",
                "python": sys.version.split()[0],
                "rounds": chosen.rounds,
                "agent_mb": [round(size, 2) for size in agents],
                "imports_mb": [round(size, 2) for size in imports],
                "ratio": round(ratio, 3),
                "goal": GOAL,
                "ok": ratio <= GOAL,
            }
        )
    )


def of_imports() -> float:
    """Return the resident memory, in MiB, of a Python that has imported these and nothing else."""
    argv = [sys.executable, "-c", f"{IMPORTS}; {WAIT}"]
    child = children.spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdin is not None
    child.stdout.read(1)
    size = resident_mb(child.pid)
    child.stdin.close()
    child.wait()
    child.stdout.close()
    return size


def of_agent(fleet: Fleet, name: str, quiet_s: float) -> float:
    """Return the resident memory, in MiB, of an agent that has deployed a model and fell quiet."""
    agent = fleet.running(name)
    for _ in range(20):
        agent.infer(name, fleets.ROW)
    processes.eventually(lambda: fleets.says(agent).connected, "it is connected")
    # Longer than the soak time, and than the agent waits before it gives memory back.
    threading.Event().wait(quiet_s)
    assert len(agent.workers()) == 1
    size = resident_mb(agent.pid)
    agent.stop()
    return size


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    size = memory.resident_bytes(pid)
    assert size is not None, "it has ended"
    return size / memory.MIB


if __name__ == "__main__":
    main()
