"""Execution providers with their options, and by what a built engine may be used again. Pure.

TensorRT builds an engine from a graph when it is first loaded, which takes minutes on a small
board. An engine is good for one model, on one GPU, by one version of TensorRT and onnxruntime, in
one precision: its directory is named by all of them, so that it is never used for anything else.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from runtime.digests import Digest
from runtime.errors import InvalidError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
PRECISION = "tensorrt_precision"
"""The key of a bundle's metadata that says in which precision engines are built."""
PRECISIONS = ("fp32", "fp16", "int8")
KEY_CHARS = 32

Options = dict[str, str]


class Board(msgspec.Struct, frozen=True):
    """What an engine is built for, beside the model."""

    onnxruntime: str
    tensorrt: str
    gpu: str
    """Its name and compute capability."""


def builds_engines(providers: Iterable[str]) -> bool:
    """Say whether loading by these providers builds an engine."""
    return TENSORRT in providers


def precision_of(metadata: Mapping[str, str]) -> str:
    """Return the precision that a bundle asks for; raise InvalidError for one that is none."""
    precision = metadata.get(PRECISION, PRECISIONS[0])
    if precision not in PRECISIONS:
        fix = f"give one of {', '.join(PRECISIONS)}"
        raise InvalidError(f"metadata.{PRECISION}", precision, fix)
    return precision


def engine_key(model: Sequence[Digest], board: Board, precision: str) -> str:
    """Return the name of the directory of an engine.

    `model` are the digests of the graph and of its external data.
    """
    told = (sorted(model), board.onnxruntime, board.tensorrt, board.gpu, precision)
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:KEY_CHARS]


def options(
    providers: Sequence[str], *, engines: Path | None = None, precision: str = PRECISIONS[0]
) -> list[Options]:
    """Return what each provider is told; `engines` is the directory of this model's engine."""
    known = {TENSORRT: _tensorrt(engines, precision), CUDA: _cuda()}
    return [known.get(provider, {}) for provider in providers]


def _tensorrt(engines: Path | None, precision: str) -> Options:
    told = {
        "trt_fp16_enable": _switch(precision in {"fp16", "int8"}),
        "trt_int8_enable": _switch(precision == "int8"),
    }
    if engines is None:
        return told
    return told | {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(engines),
    }


def _cuda() -> Options:
    # The exhaustive search measures every convolution anew at every start.
    return {"cudnn_conv_algo_search": "HEURISTIC"}


def _switch(on: bool) -> str:  # noqa: FBT001 - the switch itself
    return "1" if on else "0"
