"""Runs an ensemble: each step on what it needs, those that do not need one another side by side."""

import concurrent.futures
from collections.abc import Callable, Mapping, Sequence

from runtime.bundle.ensemble import Wiring
from runtime.errors import InvalidError, ModelError
from runtime.inference.tensors import Arrays

Predict = Callable[[Arrays], Arrays]
"""Runs one step on inputs that conform to its signature."""


class Ensemble:
    """Loaded steps, wired. `run` may be called from several threads if each step may."""

    def __init__(
        self, wiring: Wiring, steps: Mapping[str, Predict], *, inline: bool = False
    ) -> None:
        """Wire the steps; `inline` says that each may be called from any thread, at any time."""
        self._wiring, self._steps = wiring, steps
        taken = {source for feeds in wiring.feeds.values() for source in feeds.values()}
        taken.update(wiring.outputs.values())
        self._taken = {
            step: [source for source in taken if source.startswith(f"{step}.")] for step in steps
        }
        widest = max(len(level) for level in wiring.levels)
        self.inline = inline
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
        """End the threads."""
        if self._beside is not None:
            self._beside.shutdown(wait=False)

    def _step(self, step: str, values: Arrays) -> Arrays:
        """Return what a step gives, by STEP.OUTPUT."""
        feeds = self._wiring.feeds[step]
        try:
            given = self._steps[step]({name: values[source] for name, source in feeds.items()})
        except (ModelError, InvalidError) as error:
            raise ModelError(f"step {step}: {error}") from error
        outputs = {f"{step}.{name}": array for name, array in given.items()}
        missing = [source for source in self._taken[step] if source not in outputs]
        if missing:
            raise ModelError(f"step {step} gives {', '.join(given)}, but not {missing[0]}")
        return outputs
