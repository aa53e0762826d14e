"""The TensorRT engine of the bundle that this worker loads: where it is kept, and its building.

    {data}/engines/{key}/*.engine, *.profile, *.timing    onnxruntime's own
    {data}/engines/{key}/bundles.json                     which bundles it was built or used for

The directory's time of change is when it was used last; edge_agent.bundles.engines sweeps by that.
"""

import contextlib
import functools
import json
import logging
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edge_agent.bundles.engines import USERS
from edge_agent.worker import protocol
from runtime import files
from runtime.bundle import onnxfile
from runtime.bundle.index import Index
from runtime.errors import InvalidError
from runtime.inference import providers, session
from runtime.inference.providers import Board

log = logging.getLogger(__name__)

TELL_S = 10.0
ASK_GPU_S = 10.0
MIB = 1 << 20
UNKNOWN = "unknown"
_LIBRARY = re.compile(r"libnvinfer\.so\.(\d+(?:\.\d+)*)$")
_LIBRARY_PLACES = ("/usr/lib", "/usr/local/lib", "/usr/local/cuda/lib64")


@contextlib.contextmanager
def prepared(
    order: protocol.Start, directory: Path, index: Index, tell: Callable[[str], None]
) -> Iterator[Path | None]:
    """Give the directory for the engine that loading will build or use; None: it needs none."""
    if not providers.builds_engines(index.providers) or not order.engines_directory:
        yield None
        return
    root, board = Path(order.engines_directory), board_of(order.facts)
    made = place(root, directory, index, order.bundle, board)
    with telling(made, tell):
        yield made


def place(root: Path, directory: Path, index: Index, bundle: str, board: Board) -> Path:
    """Return the directory of a bundle's engine, made if need be, and note that it is used."""
    inside = {index.model, *_external_data(directory, index)}
    model = [entry.sha256 for entry in index.files if entry.path in inside]
    key = providers.engine_key(model, board, providers.precision_of(index.metadata))
    made = files.make_directory(root / key)
    users = made / USERS
    known: set[str] = set()
    with contextlib.suppress(OSError, ValueError):
        known = set(json.loads(users.read_bytes()))
    files.write_atomic(users, json.dumps(sorted({*known, bundle})).encode())
    return made


def is_built(directory: Path) -> bool:
    """Say whether an engine lies there."""
    return any(directory.glob("*.engine"))


def board_of(facts: Mapping[str, str]) -> Board:
    """Return what engines are built for here."""
    gpu = _ask_gpu() or " ".join(filter(None, (facts.get("board"), facts.get("l4t"))))
    return Board(session.version(), _tensorrt_version(), gpu or UNKNOWN)


@contextlib.contextmanager
def telling(
    directory: Path, tell: Callable[[str], None], *, every_s: float = TELL_S
) -> Iterator[None]:
    """Say how long the building has taken so far, at once and now and then, while the block runs.

    An engine that is built already is loaded at once: then nothing is said.
    """
    if is_built(directory):
        yield
        return
    done = threading.Event()
    say = functools.partial(_say, directory, tell, done, every_s)
    thread = threading.Thread(target=say, name="engine", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _say(
    directory: Path, tell: Callable[[str], None], done: threading.Event, every_s: float
) -> None:
    started = time.monotonic()
    while True:
        size_mb = sum(path.stat().st_size for path in directory.iterdir()) / MIB
        taken_s = time.monotonic() - started
        tell(f"building the engine for this board: {taken_s:.0f} s, {size_mb:.1f} MiB so far")
        if done.wait(every_s):
            return


def _external_data(directory: Path, index: Index) -> list[str]:
    try:
        return list(onnxfile.external_data(directory / index.model, index.model))
    except (OSError, InvalidError):
        return []  # it will not load, and says so itself


def _ask_gpu() -> str:
    """Return the first GPU's name and compute capability; "": nobody here can say."""
    command = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=ASK_GPU_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return asked.stdout.strip().partition("\n")[0]


def _tensorrt_version() -> str:
    """Return the version of the TensorRT library that is installed."""
    found = [
        match[1]
        for root in _LIBRARY_PLACES
        for path in Path(root).glob("**/libnvinfer.so.*")
        if (match := _LIBRARY.match(path.name))
    ]
    return max(found, key=len, default=UNKNOWN)
