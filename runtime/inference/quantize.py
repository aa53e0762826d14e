"""An int8 variant of an ONNX model, by onnxruntime's own quantizer, and what it loses.

With example inputs weights and activations become int8 (static, QDQ: one scale per channel of the
weights); without, weights alone (dynamic). Needs the `onnx` package: for build machines, not for
devices.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from runtime.bundle.index import Loss
from runtime.errors import InvalidError, ModelError
from runtime.inference.session import Session
from runtime.inference.tensors import Array, Arrays

MOST_ROWS = 512
"""So many example rows are used for calibration, spread evenly."""
DISAGREEMENT, ERROR = "disagreement", "error"
_FAILURES = (
    ModelError, ValueError, RuntimeError, TypeError, KeyError, IndexError, AttributeError,
    NotImplementedError, AssertionError,
)  # fmt: skip
"""What the quantizer raises on graphs that it was not made for."""


def int8(model: Path, target: Path, examples: Arrays | None) -> None:
    """Write an int8 version of `model` to `target`.

    `examples` are inputs as the model takes them, rows along the first axis. Raises ModelError if
    the quantizer cannot do it, InvalidError if `onnx` is not installed.
    """
    Session(model)  # says in our words what is wrong with it
    quantization = _quantizer()
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        prepared = Path(scratch) / "prepared.onnx"
        # Scales per channel lose less, but onnxruntime's quantizer fails on some graphs with them.
        for per_channel in (True, False):
            failure = _attempt(
                quantization, prepared, target, model, examples, per_channel=per_channel
            )
            if failure is None:
                return
    why = " ".join(str(failure).split())[:300]
    raise ModelError(f"{model.name} cannot be quantised: {why}") from failure


def _attempt(
    quantization: Any,
    prepared: Path,
    target: Path,
    model: Path,
    examples: Arrays | None,
    *,
    per_channel: bool,
) -> Exception | None:
    """Quantise in one way; return why it did not work, and leave nothing then."""
    try:
        quantization.shape_inference.quant_pre_process(
            str(model), str(prepared), skip_symbolic_shape=True
        )
        _quantize(quantization, prepared, target, model, examples, per_channel=per_channel)
        Session(target)
    except _FAILURES as error:
        target.unlink(missing_ok=True)
        return error
    return None


def _quantize(
    quantization: Any,
    prepared: Path,
    target: Path,
    model: Path,
    examples: Arrays | None,
    *,
    per_channel: bool,
) -> None:
    weights = {"per_channel": per_channel, "weight_type": quantization.QuantType.QInt8}
    if examples is None:
        quantization.quantize_dynamic(prepared, target, **weights)
        return
    quantization.quantize_static(
        prepared,
        target,
        _reader(quantization, Session(model), examples),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        **weights,
    )


def loss(wanted: Arrays, got: Arrays) -> Loss:
    """Return what the second outputs lose against the first, by the output that loses most.

    Classes (whole numbers, or scores of several classes in a row) are counted: the share of rows
    with another one. Other numbers: the root mean square difference in deviations of the output.
    """
    losses = [_loss(array, got[name]) for name, array in wanted.items()]
    if not losses:
        raise InvalidError("outputs", "none", "compare at least one output")
    return max(losses, key=lambda each: each.value)


def _loss(wanted: Array, got: Array) -> Loss:
    rows = wanted.shape[0] if wanted.ndim else 1
    if wanted.dtype.kind != "f":
        return Loss(DISAGREEMENT, float(np.mean(wanted != got)) if rows else 0.0, rows)
    if wanted.ndim == 2 and wanted.shape[1] > 1:  # noqa: PLR2004 - rows and classes
        other = np.argmax(wanted, axis=1) != np.argmax(got, axis=1)
        return Loss(DISAGREEMENT, float(np.mean(other)) if rows else 0.0, rows)
    difference = np.asarray(got, np.float64) - np.asarray(wanted, np.float64)
    deviation = float(np.std(np.asarray(wanted, np.float64))) if wanted.size else 0.0
    error = float(np.sqrt(np.mean(difference**2))) if wanted.size else 0.0
    return Loss(ERROR, error / deviation if deviation else error, rows)


def _quantizer() -> Any:
    try:
        # Drags in onnx, 40 MB, of which a worker has no use.
        from onnxruntime import quantization  # noqa: PLC0415
        from onnxruntime.quantization import shape_inference  # noqa: F401, PLC0415
    except ImportError as error:
        raise InvalidError(
            "quantize", "int8", f"it needs the package {error.name}: pip install packhorse[cloud]"
        ) from error
    return quantization


def _reader(quantization: Any, session: Session, examples: Arrays) -> Any:
    """Return the examples as the quantizer wants them: one feed after the other."""

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # untyped library
        """Hands out rows one by one, or all at once where the batch has a fixed size."""

        def __init__(self) -> None:
            self._feeds = _feeds(session, examples)

        def get_next(self) -> Arrays | None:
            return next(self._feeds, None)

    return Reader()


def _feeds(session: Session, examples: Arrays) -> Iterator[Arrays]:
    rows = min(array.shape[0] if array.ndim else 1 for array in examples.values())
    by_row = all(spec.shape and spec.shape[0] in {-1, 1} for spec in session.signature.inputs)
    if not by_row:
        yield examples
        return
    for row in np.unique(np.linspace(0, rows - 1, min(rows, MOST_ROWS)).astype(int)):
        yield {name: array[row : row + 1] for name, array in examples.items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice out of our output: what matters is measured."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
