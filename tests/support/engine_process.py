"""Engines of rollouts in processes of their own, to be killed: `engine_process DATA`.

Each line on stdin forks one, which says `looking` and looks again and again until it is killed.
What an engine needs is imported once, so one more costs next to nothing.
"""

import os
import sys
import threading
from pathlib import Path

from cloud.rollouts.engine import Engine
from runtime.clock import SystemClock
from tests.support import registries

LOOK_S = 0.005


def main(data: Path) -> None:
    """Fork engines as long as somebody asks for them; say when each has ended."""
    for _line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _look(data)
        os.waitpid(pid, 0)
        _say("ended")


def _look(data: Path) -> None:
    engine = Engine(registries.services(data, clock=SystemClock()), owner="one")
    pause = threading.Event()
    _say(f"looking {os.getpid()}")
    while True:
        engine.look()
        pause.wait(LOOK_S)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
