"""`python -m edge_agent.worker --control-fd N`: started by the agent, for one bundle.

Exit codes: 0 stopped as told or the agent is gone, 1 the bundle did not load, 2 a fault in here.
"""

import argparse
import faulthandler
import logging
import os
import signal
import socket
import sys

import uvloop

from edge_agent.worker.process import Worker
from runtime import logs

log = logging.getLogger("edge_agent.worker")


def main() -> int:
    """Serve the agent at the other end of the control socket; return the exit code."""
    parser = argparse.ArgumentParser(prog="edge_agent.worker")
    parser.add_argument("--control-fd", type=int, required=True)
    control = socket.socket(fileno=parser.parse_args().control_fd)
    os.set_inheritable(control.fileno(), False)
    faulthandler.enable()
    logs.set_up()
    # The agent alone says when to stop: ^C and systemd's SIGTERM reach the workers too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # An entry script shall leave nothing among the bundle's files.
    sys.dont_write_bytecode = True
    try:
        return uvloop.run(Worker(control).run())
    except Exception:  # the outermost loop: the agent starts another worker
        log.exception("worker failed")
        return 2


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    # Threads may be inside a model or a script that does not return: they are not waited for.
    os._exit(code)
