"""Predictors that do what a test says, in place of models: they implement serving's Predictor."""

import threading
from collections.abc import Iterator, Sequence

from runtime.bundle.index import Batching, Signature, TensorSpec
from runtime.errors import ModelError
from runtime.inference.tensors import Arrays

ROW = Signature(inputs=(TensorSpec("x", "FP32", (-1,)),), outputs=(TensorSpec("x", "FP32", (-1,)),))


class Echo:
    """Gives its inputs back."""

    signature = ROW
    inline = False
    streams = False
    platform = "echo"
    output_names: tuple[str, ...] | None = ("x",)

    def __init__(self, *, callers: int = 1, batching: Batching | None = None) -> None:
        self.callers, self.batching = callers, batching
        self.sizes: list[int] = []
        """Rows of each run."""
        self.closed = threading.Event()

    def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Return the inputs."""
        assert outputs in {None, ("x",)}
        self.sizes.append(len(inputs["x"]))
        return inputs

    def stream(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Iterator[Arrays]:
        """Yield the inputs."""
        yield self.predict(inputs, outputs)

    def close(self) -> None:
        """Say that it was."""
        self.closed.set()


class Gate(Echo):
    """Waits until it is let go."""

    def __init__(self, *, callers: int = 1, batching: Batching | None = None) -> None:
        super().__init__(callers=callers, batching=batching)
        self.open = threading.Event()
        self.begun = threading.Semaphore(0)
        """Released as each run begins."""

    def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Return the inputs once the gate is open."""
        self.begun.release()
        assert self.open.wait(30)
        return super().predict(inputs, outputs)


class Counter(Echo):
    """Answers piece by piece: its inputs times 1, 2, 3; then fails if the first is negative."""

    streams = True

    def stream(self, inputs: Arrays, _outputs: Sequence[str] | None = None) -> Iterator[Arrays]:
        """Yield the pieces."""
        for factor in (1, 2, 3):
            yield {name: array * factor for name, array in inputs.items()}
        if inputs["x"].flat[0] < 0:
            raise ModelError("it counts upwards alone")
