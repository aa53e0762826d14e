"""Runs an ensemble: each step on what it needs, those that do not need one another side by side."""

import concurrent.futures
from collections.abc import Mapping, Sequence
from typing import Protocol

from runtime.bundle.ensemble import Wiring
from runtime.bundle.signature import Signature
from runtime.errors import InvalidError, ModelError
from runtime.inference import tensors
from runtime.inference.tensors import Arrays


class Part(Protocol):
    """A loaded step."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    @property
    def callers(self) -> int:
        """How many may call `predict` at once."""
        ...

    @property
    def inline(self) -> bool:
        """Say whether `predict` only computes: then any thread may call it, at any time."""
        ...

    def predict(self, inputs: Arrays) -> Arrays:
        """Return all outputs for inputs that conform to the signature; raise ModelError."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class Ensemble:
    """Loaded steps, wired. `run` may be called from several threads if each step may."""

    def __init__(self, wiring: Wiring, steps: Mapping[str, Part]) -> None:
        self._wiring, self._steps = wiring, steps
        taken = {source for feeds in wiring.feeds.values() for source in feeds.values()}
        taken.update(wiring.outputs.values())
        self._taken = {
            step: [source for source in taken if source.startswith(f"{step}.")] for step in steps
        }
        widest = max(len(level) for level in wiring.levels)
        self.inline = all(step.inline for step in steps.values())
        self._beside = concurrent.futures.ThreadPoolExecutor(widest - 1) if widest > 1 else None

    def run(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Return the named outputs, or all; raise ModelError naming the step that fails."""
        values = dict(inputs)
        for level in self._wiring.levels:
            # The first of a level runs here: most levels have but one step.
            beside = {
                step: self._beside.submit(self._step, step, values)
                for step in level[1:]
                if self._beside is not None
            }
            values.update(self._step(level[0], values))
            for future in beside.values():
                values.update(future.result())
        names = self._wiring.outputs if outputs is None else outputs
        return {name: values[self._wiring.outputs[name]] for name in names}

    def close(self) -> None:
        """End the threads, and let the steps go."""
        for step in self._steps.values():
            step.close()
        if self._beside is not None:
            self._beside.shutdown(wait=False)

    def _step(self, step: str, values: Arrays) -> Arrays:
        """Return what a step gives, by STEP.OUTPUT."""
        feeds = self._wiring.feeds[step]
        try:
            part = self._steps[step]
            fed = {name: values[source] for name, source in feeds.items()}
            given = part.predict(tensors.conform(part.signature, fed))
        except (ModelError, InvalidError) as error:
            raise ModelError(f"step {step}: {error}") from error
        outputs = {f"{step}.{name}": array for name, array in given.items()}
        missing = [source for source in self._taken[step] if source not in outputs]
        if missing:
            raise ModelError(f"step {step} gives {', '.join(given)}, but not {missing[0]}")
        return outputs
