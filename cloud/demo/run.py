"""`packhorse demo`: from nothing to a fleet that was updated while it worked, and the proof.

What is told at the end is worked out from the telemetry that arrived in the registry.
"""

import importlib.util
import json as jsons
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from rich.console import Console

from cloud.demo import table
from cloud.demo.errors import DemoError
from cloud.demo.play import Demo
from cloud.demo.stage import Stage
from cloud.demo.steps import Steps
from cloud.demo.table import Outcome
from runtime import files
from runtime.errors import PackhorseError

NEEDED = ("sklearn", "skl2onnx", "PIL", "onnxruntime", "paho")


def run(*, devices: int, directory: Path | None, keep: bool, json: bool) -> int:
    """Run the demo; return the exit code. Raises PackhorseError if it cannot begin."""
    _require_parts()
    chosen = _directory(directory)
    names = tuple(f"dev-{number}" for number in range(1, devices + 1))
    demo = Demo(Stage(chosen, names), Steps(Console(stderr=True)))
    # SIGINT too: it is ignored in whatever a script has put into the background.
    previous = {
        number: signal.signal(number, lambda *_: _interrupt())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    failed = True
    try:
        outcome = demo.play(keep=keep)
        failed = bool(outcome.complaints)
        _present(outcome, json=json)
        if keep:
            _wait_for_interrupt(demo.console)
    except KeyboardInterrupt:
        demo.console.print("stopped")
    except PackhorseError as error:
        if json:
            _print_json({"ok": False, "complaints": [str(error)]})
        demo.console.print(f"The demo failed: {error}", style="bold red", soft_wrap=True)
    finally:
        with demo.console.status("stopping ..."):
            demo.stage.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
        _tidy(chosen, demo.console, wanted=directory is not None or (failed and not keep))
    return 1 if failed else 0


def _require_parts() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f"the demo needs {', '.join(missing)}: pip install 'packhorse[demo]'")


def _directory(chosen: Path | None) -> Path:
    if chosen is None:
        return Path(tempfile.mkdtemp(prefix="packhorse-demo-"))
    if chosen.exists() and any(chosen.iterdir()):
        raise DemoError(f"{chosen} is not empty: give a directory that is new")
    return files.make_directory(chosen.absolute())


def _present(outcome: Outcome, *, json: bool) -> None:
    if json:
        _print_json(outcome.plain)
    else:
        table.show(outcome, Console())


def _print_json(plain: dict[str, Any]) -> None:
    sys.stdout.write(jsons.dumps(plain) + "\n")
    sys.stdout.flush()


def _tidy(directory: Path, console: Console, *, wanted: bool) -> None:
    if wanted:
        console.print(f"Everything is left in {directory}", soft_wrap=True)
    else:
        shutil.rmtree(directory, ignore_errors=True)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _wait_for_interrupt(console: Console) -> None:
    console.print("It all goes on running. Ctrl-C ends it.", style="bold")
    threading.Event().wait()
