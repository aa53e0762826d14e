"""From a prediction to the record of it: what is kept, and of which predictions.

Shared by the device's recorder (into its spool) and a server's (into files).
"""

import hashlib
import itertools
from typing import Any, NamedTuple

from runtime.batches import Record
from runtime.inference.tensors import Array, Arrays
from runtime.messages import Capture
from runtime.serving.served import Origin, Prediction

MAX_OUTPUT_VALUES = 64
"""Of each output; the rest is cut."""
MAX_INPUT_VALUES = 16_384
"""Of all inputs of a prediction together; larger ones are not captured, since half is no use."""
MAX_TEXT_CHARS = 256
MAX_ERROR_CHARS = 500


class Maker(NamedTuple):
    """Who made a prediction, as its record names it."""

    module: str
    bundle: str
    model: str
    version: int


class Sampler:
    """Draws of which predictions the inputs are kept. May be used by several threads."""

    def __init__(self, fraction: float) -> None:
        self._fraction = fraction
        self._count = itertools.count(1)

    def takes(self, prediction: Prediction) -> bool:
        """Draw by what identifies the prediction, so that a repeated item has the same lot."""
        if not 0 < self._fraction < 1:
            return self._fraction >= 1
        if prediction.origin is not None:
            key = f"{prediction.origin.source}\n{prediction.origin.item}"
        else:
            number = next(self._count)
            key = prediction.request or f"{prediction.at}\n{number}"
        lot = hashlib.blake2b(key.encode(errors="replace"), digest_size=8).digest()
        return int.from_bytes(lot, "big") < self._fraction * 2**64


def record_of(prediction: Prediction, maker: Maker, rules: Capture, sampler: Sampler) -> Record:
    """Return what is kept of a prediction; its arrays are not held on to."""
    outputs = inputs = None
    if rules.outputs and prediction.outputs is not None:
        outputs = {name: cut(array) for name, array in prediction.outputs.items()}
    if sampler.takes(prediction):
        inputs = whole(prediction.inputs)
    origin = prediction.origin
    return Record(
        at=prediction.at,
        module=maker.module,
        bundle=maker.bundle,
        model=maker.model,
        version=maker.version,
        latency_ms=prediction.latency_ms,
        outputs=outputs,
        inputs=inputs,
        request=prediction.request,
        source=None if origin is None else origin.source,
        item=None if origin is None else origin.item,
        position=None if origin is None else origin.position,
        error=None if prediction.error is None else prediction.error[:MAX_ERROR_CHARS],
    )


def record_of_failure(at: float, origin: Origin, error: str, maker: Maker) -> Record:
    """Return the record of an input that never reached the model."""
    return Record(
        at=at,
        module=maker.module,
        bundle=maker.bundle,
        model=maker.model,
        version=maker.version,
        latency_ms=0.0,
        source=origin.source,
        item=origin.item,
        position=origin.position,
        error=error[:MAX_ERROR_CHARS],
    )


def lessened(record: Record) -> dict[str, None] | None:
    """Return what to leave out of a record that is too large; None: nothing is left to."""
    if record.inputs is not None:
        return {"inputs": None}
    return None if record.outputs is None else {"outputs": None}


def cut(array: Array) -> Any:
    """Return an output's values: nested as its shape says, or flat and cut if there are many."""
    if array.size > MAX_OUTPUT_VALUES:
        array = array.reshape(-1)[:MAX_OUTPUT_VALUES]
    if array.dtype.kind in "OUS":
        return _short(array.tolist())
    return array.tolist()


def whole(inputs: Arrays) -> dict[str, Any] | None:
    """Return all inputs' values, nested; None if they are too many."""
    if sum(array.size for array in inputs.values()) > MAX_INPUT_VALUES:
        return None
    return {name: array.tolist() for name, array in inputs.items()}


def _short(values: Any) -> Any:
    if isinstance(values, list):
        return [_short(value) for value in values]
    return str(values)[:MAX_TEXT_CHARS]
