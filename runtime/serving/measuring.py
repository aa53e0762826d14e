"""How fast a model is here, found out when it is loaded; that decides where it runs.

A run that takes less than handing it to another thread and back is done in the event loop. How
large its inputs may be there is found by doubling the batch until it is not quick any more.
"""

import logging
import statistics
import time
from typing import Protocol

import msgspec
import numpy as np

from runtime.bundle.index import Signature
from runtime.errors import InvalidError, ModelError
from runtime.inference.check import sample as sample  # noqa: PLC0414 - for those who load
from runtime.inference.tensors import Arrays

log = logging.getLogger(__name__)

QUICK_S = 0.0002
WARM_UP = 3
RUNS = 15
FEWEST = 3
CLEARLY_SLOW_S = 10 * QUICK_S
"""What takes so long needs no more measuring."""
BUDGET_S = 0.3
"""For one measurement; one run at least."""
MOST_ROWS = 1024
GROWTH = 4


class Measured(msgspec.Struct, frozen=True):
    """What one model takes here."""

    run_s: float
    """Median of a run with the sample's inputs."""
    elements: int
    """Values in these."""
    quick_elements: int
    """Up to how many values of input a run is quick; 0: never."""


UNMEASURED = Measured(run_s=0.0, elements=0, quick_elements=0)


class Runs(Protocol):
    """What is measured."""

    @property
    def signature(self) -> Signature:
        """What it takes."""
        ...

    @property
    def inline(self) -> bool:
        """Say whether any thread may call it."""
        ...

    def predict(self, inputs: Arrays) -> Arrays:
        """Run once."""
        ...


def measure(model: Runs, inputs: Arrays) -> Measured:
    """Run a model until it is warm, then find out how long it takes; it may fail on these inputs.

    What the failure has to say is the check's business, not ours: such a model is not quick. What
    does more than compute is run but once: a script may have effects.
    """
    try:
        if not model.inline:
            return Measured(_once(model, inputs), elements(inputs), 0)
        run_s = _median(model, inputs)
        largest = inputs
        quick = run_s < QUICK_S
        if quick and _any_size(model.signature):
            largest = _largest_quick(model, inputs)
    except (ModelError, InvalidError) as error:
        log.warning("warm-up failed", extra={"reason": str(error)})
        return UNMEASURED
    return Measured(run_s, elements(inputs), elements(largest) if quick else 0)


def elements(inputs: Arrays) -> int:
    """Return how many values inputs have together."""
    return sum(array.size for array in inputs.values())


def _largest_quick(model: Runs, inputs: Arrays) -> Arrays:
    largest, rows = inputs, GROWTH
    while rows <= MOST_ROWS:
        grown = {name: np.repeat(array, rows, axis=0) for name, array in inputs.items()}
        try:
            if _median(model, grown) >= QUICK_S:
                break
        except (ModelError, InvalidError):
            break  # larger batches are the model's own trouble, where they are asked for
        largest, rows = grown, rows * GROWTH
    return largest


def _any_size(signature: Signature) -> bool:
    return all(spec.shape[:1] == (-1,) for spec in signature.inputs)


def _median(model: Runs, inputs: Arrays) -> float:
    for _ in range(WARM_UP):
        if _once(model, inputs) > CLEARLY_SLOW_S:
            break
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < RUNS and time.perf_counter() - started < BUDGET_S:
        taken.append(_once(model, inputs))
        if len(taken) >= FEWEST and min(taken) > CLEARLY_SLOW_S:
            break
    return statistics.median(taken)


def _once(model: Runs, inputs: Arrays) -> float:
    before = time.perf_counter()
    model.predict(inputs)
    return time.perf_counter() - before
