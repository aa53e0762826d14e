"""`python -m edge_agent.simulation`: one process of `packhorse simulate`.

It is told, and tells, by lines of JSON: see runtime.simulated.
"""

import logging
import sys
import threading

import msgspec

from edge_agent.simulation.fleet import Simulation
from runtime import limits, logs, simulated
from runtime.errors import PackhorseError
from runtime.simulated import Fleet

log = logging.getLogger(__name__)


def main() -> int:
    """Run the devices that standard input names, until it ends."""
    logs.set_up(form="plain", level="error")
    limits.raise_files()
    fleet = msgspec.json.decode(sys.stdin.buffer.readline(), type=Fleet)
    try:
        simulation = Simulation(fleet, _tell)
    except PackhorseError as error:
        _tell(simulated.Trouble(str(error)))
        return 1
    threading.Thread(target=_wait_for_end, args=(simulation,), daemon=True).start()
    simulation.run()
    return 0


def _wait_for_end(simulation: Simulation) -> None:
    for line in sys.stdin.buffer:
        if line == simulated.CALM:
            simulation.calm()
        elif line == simulated.STORM:
            simulation.storm()
    simulation.stop()


def _tell(message: msgspec.Struct) -> None:
    sys.stdout.buffer.write(simulated.line(message))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
