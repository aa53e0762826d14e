"""The bundle's own acceptance test: golden inputs must give golden outputs, fast enough, here."""

import logging
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from runtime.bundle.index import Check, Index, Signature
from runtime.errors import InvalidError, ModelError
from runtime.inference import memory, tensors
from runtime.inference.tensors import Array, Arrays

log = logging.getLogger(__name__)

RUNS = 20
"""How often the inputs are run for the latency; fewer, but FEWEST, once BUDGET_S is used up."""
FEWEST = 3
BUDGET_S = 5.0
WARM_UP = 1


@dataclass(frozen=True)
class CheckResult:
    """How a check went."""

    ok: bool
    text: str
    """Why not, or what was measured."""
    p95_ms: float


class Checked(Protocol):
    """What is checked; runtime.inference.model.Model is one."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def predict(self, inputs: Arrays) -> Arrays:
        """Run once; raise ModelError."""
        ...


def run_check(model: Checked, directory: Path, index: Index) -> CheckResult:
    """Run the bundle's check; a bundle without one passes."""
    check = index.check
    if check is None:
        return CheckResult(ok=True, text="the bundle has no check", p95_ms=0.0)
    p95_ms = 0.0
    try:
        p95_ms = measure(model, _run(model, directory, check))
    except (ModelError, InvalidError) as error:
        return CheckResult(ok=False, text=str(error), p95_ms=p95_ms)
    used_mb = None if check.memory_mb is None else memory.most_resident_mb()
    text = _too_much(check, p95_ms, used_mb)
    if text:
        return CheckResult(ok=False, text=text, p95_ms=p95_ms)
    memory_text = "" if used_mb is None else f", memory is {used_mb:.0f} MiB at most"
    return CheckResult(ok=True, text=f"p95 is {p95_ms:.1f} ms{memory_text}", p95_ms=p95_ms)


def _too_much(check: Check, p95_ms: float, used_mb: float | None) -> str:
    """Say what was over its limit on this device; empty: nothing."""
    if check.p95_ms is not None and p95_ms > check.p95_ms:
        limit = f"check.p95_ms of {check.p95_ms:g} ms"
        return f"p95 is {p95_ms:.1f} ms on this device, above {limit}"
    if check.memory_mb is not None and used_mb is not None and used_mb > check.memory_mb:
        limit = f"check.memory_mb of {check.memory_mb:g} MiB"
        return f"memory is {used_mb:.0f} MiB at most on this device, above {limit}"
    return ""


def require(model: Checked, directory: Path, index: Index) -> None:
    """Raise ModelError unless the model gives what its check says; how fast does not matter."""
    if index.check is not None:
        try:
            _run(model, directory, index.check)
        except InvalidError as error:
            raise ModelError(str(error)) from error


def sample(signature: Signature, directory: Path, index: Index) -> Arrays:
    """Return inputs to try a model with: its check's, else zeros."""
    if index.check is not None:
        try:
            return tensors.conform(signature, read_arrays(directory / index.check.inputs))
        except InvalidError as error:
            log.warning("check has no fitting inputs", extra={"reason": str(error)})
    return tensors.zeros(signature)


def _run(model: Checked, directory: Path, check: Check) -> Arrays:
    """Return the check's inputs, which have given its outputs."""
    inputs = tensors.conform(model.signature, read_arrays(directory / check.inputs))
    outputs = model.predict(inputs)
    if check.outputs is not None:
        compare(check, read_arrays(directory / check.outputs), outputs)
    return inputs


def read_arrays(path: Path) -> Arrays:
    """Return the arrays of a .npz file by name; raise InvalidError if it is none."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InvalidError(
            "check", path.name, f"it is no .npz file without pickles ({error})"
        ) from error


def compare(check: Check, wanted: Arrays, got: Arrays) -> None:
    """Raise ModelError naming the first output that is not as wanted, within the tolerances."""
    for name, array in wanted.items():
        if name not in got:
            raise ModelError(f"the model gives no output {name}: it gives {', '.join(got)}")
        here = got[name]
        if here.shape != array.shape:
            raise ModelError(
                f"output {name} has shape {list(here.shape)}, wanted {list(array.shape)}"
            )
        wrong = differing(check, array, here)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ModelError(
                f"output {name} differs in {int(wrong.sum())} of {array.size} values:"
                f" at {list(at)} it is {here[at]!s}, wanted {array[at]!s}"
                f" (rtol {check.rtol:g}, atol {check.atol:g})"
            )


def measure(model: Checked, inputs: Arrays) -> float:
    """Return the 95th percentile of the latency of these inputs here, in milliseconds."""
    taken: list[float] = []
    started = time.perf_counter()
    for run in range(RUNS + WARM_UP):
        before = time.perf_counter()
        model.predict(inputs)
        after = time.perf_counter()
        if run >= WARM_UP:
            taken.append(after - before)
        if len(taken) >= FEWEST and after - started > BUDGET_S:
            break
    return float(np.percentile(taken, 95)) * 1000


def differing(check: Check, wanted: Array, got: Array) -> Array:
    """Return where two arrays of one shape differ, by the tolerances of a check."""
    numeric = "fiub"
    if wanted.dtype.kind == "f" and got.dtype.kind in numeric:
        return ~np.isclose(got, wanted, rtol=check.rtol, atol=check.atol, equal_nan=True)
    if (wanted.dtype.kind in numeric) != (got.dtype.kind in numeric):
        return np.ones(wanted.shape, dtype=np.bool_)
    return np.asarray(got != wanted)
