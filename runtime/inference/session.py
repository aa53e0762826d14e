"""The one door to onnxruntime: load an ONNX file, say what it takes and gives, run it.

onnxruntime's own log is off: what it has to say arrives as ModelError, in one line and without
its status codes and C++ source positions.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from runtime.bundle.index import DataType, Signature, TensorSpec
from runtime.errors import ModelError
from runtime.inference.providers import CPU, PRECISIONS, options

Arrays = dict[str, np.ndarray[Any, Any]]
"""Tensor name to array."""

DATATYPES: dict[str, DataType] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
"""onnxruntime's name of a type to the Open Inference Protocol's."""

DYNAMIC = -1
QUIET = 4
"""Only what ends the process is logged."""
MAX_REASON_CHARS = 300

_FOREIGN: tuple[type[Exception], ...] = (
    *(
        kind
        for kind in vars(onnxruntime_pybind11_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
    RuntimeError,
    ValueError,
)
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"|Load model from .*? failed:\s*"
    r"|Load model .*? failed\. "
    r"|/\S+:\d+ [^(]*\((?:[^()]|\([^()]*\))*\)(?: const)? "
    r"|Non-zero status code returned while "
    r"|Name:'' ?"
)


class Session:
    """One loaded model. `run` may be called from several threads at once."""

    inline = True

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        providers: Sequence[str] = (CPU,),
        engines: Path | None = None,
        precision: str = PRECISIONS[0],
    ) -> None:
        """Load a file; raise ModelError saying what is wrong with it.

        `threads` is the number of cores that one run may use, `engines` where TensorRT keeps what
        it builds of this model, in this precision.
        """
        _require(providers)
        try:
            self._session = onnxruntime.InferenceSession(
                str(path),
                _options(threads),
                providers=list(providers),
                provider_options=options(providers, engines=engines, precision=precision),
            )
        except _FOREIGN as error:
            raise ModelError(
                f"{path.name} does not load in onnxruntime {onnxruntime.__version__}"
                f" ({reason(error)}): export it to ONNX again"
            ) from error
        self.signature = Signature(
            inputs=tuple(_spec(path, "input", node) for node in self._session.get_inputs()),
            outputs=tuple(_spec(path, "output", node) for node in self._session.get_outputs()),
        )
        self._name = path.name
        self._outputs = [spec.name for spec in self.signature.outputs]

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None) -> Arrays:
        """Return the named outputs, or all; raise ModelError if the model fails on these inputs."""
        names = self._outputs if outputs is None else list(outputs)
        try:
            values = self._session.run(names, inputs)
        except _FOREIGN as error:
            raise ModelError(f"{self._name} fails on this input: {reason(error)}") from error
        return dict(zip(names, values, strict=True))


def reason(error: Exception) -> str:
    """Return onnxruntime's message as one short line."""
    text = " ".join(_NOISE.sub("", str(error)).split()).rstrip(".")
    return text if len(text) <= MAX_REASON_CHARS else text[: MAX_REASON_CHARS - 3] + "..."


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A waiting thread sleeps: a device's other work needs the core more than the next microsecond.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def version() -> str:
    """Return onnxruntime's."""
    return str(onnxruntime.__version__)


def _require(providers: Sequence[str]) -> None:
    """Raise ModelError unless this build has every provider: it would quietly use another."""
    available = onnxruntime.get_available_providers()
    missing = [name for name in providers if name not in available]
    if missing:
        raise ModelError(
            f"onnxruntime has no {', '.join(missing)} here: choose from {', '.join(available)}"
        )


def _spec(path: Path, side: str, node: Any) -> TensorSpec:
    datatype = DATATYPES.get(node.type)
    if datatype is None:
        fix = (
            "convert with zipmap=False (skl2onnx: options={'zipmap': False})"
            if node.type.startswith(("seq(map", "map("))
            else f"use one of {', '.join(DATATYPES)}"
        )
        raise ModelError(
            f"{path.name}: {side} {node.name} is a {node.type}, which the Open Inference Protocol"
            f" cannot carry: {fix}"
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else DYNAMIC for size in node.shape)
    return TensorSpec(name=node.name, datatype=datatype, shape=shape)


onnxruntime.set_default_logger_severity(QUIET)
