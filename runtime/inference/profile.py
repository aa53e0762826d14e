"""Measures a bundle here: threads x rows of a batch x callers, each in a process of its own.

A process of its own, so that one setting's threads, caches and memory are not the next one's. It
reads one Job as JSON from stdin and prints one Measurement.

    python -m runtime.inference.profile < job
"""

import contextlib
import itertools
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from runtime.bundle import index as bundle_index
from runtime.bundle import policy
from runtime.bundle.index import Index, Signature
from runtime.errors import InvalidError, ModelError, PackhorseError
from runtime.inference import admission, check
from runtime.inference.model import Model
from runtime.inference.tensors import Arrays

WARM_UP = 3
MAX_RUNS = 200_000
LOAD_S = 300.0
"""How long loading and the first runs may take, beside what is measured."""
MIB = 1 << 20
SWITCH = "give --allow {need}"
MAX_ROWS = 4096


class Setting(msgspec.Struct, frozen=True, order=True):
    """What is tried."""

    threads: int
    """Of one run (intra-op)."""
    rows: int
    """Of a batch; 0: as the sample has them, since the model takes no other number."""
    callers: int
    """Who run at once."""


class Measurement(msgspec.Struct, frozen=True):
    """How a setting went."""

    setting: Setting
    rows: int
    """Of each run."""
    runs: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    rows_s: float
    """Throughput, all callers together."""
    memory_mb: float
    """The most that the process had resident, Python and onnxruntime included."""
    error: str = ""
    """Why there are no figures."""


class Job(msgspec.Struct, frozen=True):
    """What a child is to measure."""

    directory: str
    index: str
    setting: Setting
    seconds: float
    allow: tuple[str, ...]


def settings(
    index: Index,
    *,
    threads: Sequence[int] = (),
    rows: Sequence[int] = (),
    callers: Sequence[int] = (),
) -> list[Setting]:
    """Return what to try: what was asked for, else what this machine and the model make sensible.

    Raises InvalidError for numbers that make no sense.
    """
    cores = len(os.sched_getaffinity(0))
    doubled = [n for n in (1, 2, 4, 8, 16, 32) if n <= cores]
    for field, values, most in (
        ("--threads", threads, 1024), ("--batches", rows, MAX_ROWS), ("--callers", callers, 1024),
    ):  # fmt: skip
        for value in values:
            if not 0 < value <= most:
                raise InvalidError(field, value, f"give 1 to {most}")
    if not any_rows(index.signature):
        if rows:
            fix = "the model takes one number of rows alone: leave it out"
            raise InvalidError("--batches", list(rows), fix)
        sizes: Sequence[int] = (0,)
    else:
        sizes = rows or (1, 8, 32)
    grid = itertools.product(threads or doubled, sizes, callers or sorted({1, cores}))
    return [Setting(*each) for each in grid]


def any_rows(signature: Signature) -> bool:
    """Say whether each input and output takes any number of rows."""
    specs = (*signature.inputs, *signature.outputs)
    return all(spec.shape[:1] == (-1,) for spec in specs)


def measure_all(
    directory: Path,
    index: Index,
    wanted: Sequence[Setting],
    *,
    seconds: float,
    allow: Collection[str] = policy.DEFAULT,
    done: Callable[[], None] = lambda: None,
) -> Iterator[Measurement]:
    """Yield how each setting goes, one after the other; `done` is called after each.

    Raises InvalidError if the bundle needs what is not allowed, ModelError if no setting works.
    """
    admission.require(directory, index, allow, SWITCH)
    plain, worked, trouble = bundle_index.encode(index).decode(), False, ""
    for setting in wanted:
        job = Job(str(directory.absolute()), plain, setting, seconds, tuple(allow))
        measured = _in_child(job)
        worked, trouble = worked or not measured.error, trouble or measured.error
        yield measured
        done()
    if not worked:
        raise ModelError(trouble or "there was nothing to measure")


def _in_child(job: Job) -> Measurement:
    argv = [sys.executable, "-m", "runtime.inference.profile"]
    try:
        ran = subprocess.run(
            argv,
            input=msgspec.json.encode(job),
            capture_output=True,
            timeout=LOAD_S + 2 * job.seconds,
            check=False,
        )
        return msgspec.json.decode(ran.stdout.splitlines()[-1], type=Measurement)
    except subprocess.TimeoutExpired:
        return _failed(job.setting, f"not done within {LOAD_S:g} seconds")
    except (IndexError, msgspec.DecodeError):
        last = ran.stderr.decode(errors="replace").strip().splitlines()[-1:]
        said = f": {last[0][:200]}" if last else ""
        return _failed(job.setting, f"its process ended ({ran.returncode}){said}")


def _failed(setting: Setting, error: str) -> Measurement:
    return Measurement(setting, setting.rows, 0, 0.0, 0.0, 0.0, 0.0, 0.0, error)


# In the child -------------------------------------------------------------------------------------


def measure(job: Job) -> Measurement:
    """Measure in this process; raise ModelError or InvalidError as the model does."""
    setting = job.setting
    directory, index = Path(job.directory), bundle_index.decode(job.index.encode())
    resources = msgspec.structs.replace(index.resources, cpu=float(setting.threads))
    index = msgspec.structs.replace(index, resources=resources)
    admission.bind(index, job.allow, SWITCH)
    model = Model.load(directory, index)
    if model.inline is False and setting.callers > model.callers:
        raise ModelError(f"its script takes {model.callers} callers")
    inputs = _of_rows(check.sample(model.signature, directory, index), setting.rows)
    for _ in range(WARM_UP):
        model.predict(inputs)
    started = time.perf_counter()
    taken = _callers(model, inputs, setting.callers, job.seconds)
    elapsed = time.perf_counter() - started
    p50, p95, p99 = (float(np.percentile(taken, q)) * 1000 for q in (50, 95, 99))
    rows = setting.rows or max((len(a) for a in inputs.values() if a.ndim), default=1)
    rows_s = len(taken) * rows / elapsed
    return Measurement(setting, rows, len(taken), p50, p95, p99, rows_s, _most_memory_mb())


def _most_memory_mb() -> float:
    """Return the most MiB that this process has ever had in memory.

    Not by getrusage(2), where there is another way: that counts what the parent had before exec.
    """
    with contextlib.suppress(OSError, IndexError):
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


def _of_rows(inputs: Arrays, rows: int) -> Arrays:
    """Return inputs of so many rows: the sample's, over and over."""
    if not rows:
        return inputs
    return {name: np.resize(array, (rows, *array.shape[1:])) for name, array in inputs.items()}


def _callers(model: Model, inputs: Arrays, callers: int, seconds: float) -> list[float]:
    """Return how long each run took, of all callers; raise what one of them raised."""
    taken: list[list[float]] = [[] for _ in range(callers)]
    failed: list[PackhorseError] = []
    together = threading.Barrier(callers)

    def call(own: list[float]) -> None:
        together.wait()
        deadline = time.perf_counter() + seconds
        try:
            while len(own) < MAX_RUNS:
                before = time.perf_counter()
                model.predict(inputs)
                after = time.perf_counter()
                own.append(after - before)
                if after > deadline:
                    return
        except PackhorseError as error:
            failed.append(error)

    threads = [threading.Thread(target=call, args=(own,)) for own in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [each for own in taken for each in own]


def main() -> int:
    """Measure what stdin says and print it; return the exit code."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    # What a script prints is not ours.
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.dont_write_bytecode = True
    try:
        measured = measure(job)
    except (PackhorseError, MemoryError) as error:
        measured = _failed(job.setting, " ".join(str(error).split()) or type(error).__name__)
    os.write(out, msgspec.json.encode(measured) + b"\n")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
