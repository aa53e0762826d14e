"""Providers, their options, and by what a built engine is known."""

from pathlib import Path

import onnxruntime
import pytest

from runtime.digests import Digest
from runtime.errors import InvalidError, ModelError
from runtime.inference import providers
from runtime.inference.providers import CPU, CUDA, TENSORRT, Board
from runtime.inference.session import Session
from tests.support import models

MODEL = (Digest("a" * 64), Digest("b" * 64))
BOARD = Board(onnxruntime="1.20.0", tensorrt="10.3.0", gpu="Orin, 8.7")


@pytest.mark.parametrize(
    ("model", "board", "precision"),
    [
        (MODEL[:1], BOARD, "fp32"),
        (MODEL, Board("1.21.0", BOARD.tensorrt, BOARD.gpu), "fp32"),
        (MODEL, Board(BOARD.onnxruntime, "8.6.2", BOARD.gpu), "fp32"),
        (MODEL, Board(BOARD.onnxruntime, BOARD.tensorrt, "Xavier, 7.2"), "fp32"),
        (MODEL, BOARD, "fp16"),
    ],
)
def test_an_engine_is_never_used_for_another_model_board_version_or_precision(
    model: tuple[Digest, ...], board: Board, precision: str
) -> None:
    """Evidence, row 42: engines do not move between versions and boards."""
    own = providers.engine_key(MODEL, BOARD, "fp32")

    assert providers.engine_key(model, board, precision) != own
    assert providers.engine_key(MODEL[::-1], BOARD, "fp32") == own


def test_tensorrt_keeps_its_engines_and_timings_where_it_is_told() -> None:
    told = providers.options((TENSORRT, CUDA, CPU), engines=Path("/e/key"), precision="fp16")

    assert told == [
        {
            "trt_fp16_enable": "1",
            "trt_int8_enable": "0",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": "/e/key",
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": "/e/key",
        },
        {"cudnn_conv_algo_search": "HEURISTIC"},
        {},
    ]
    assert "trt_engine_cache_enable" not in providers.options((TENSORRT,))[0]


def test_a_precision_that_is_none_is_named() -> None:
    assert providers.precision_of({}) == "fp32"
    with pytest.raises(InvalidError, match=r"metadata\.tensorrt_precision.*fp32, fp16, int8"):
        providers.precision_of({providers.PRECISION: "fp4"})


def test_a_provider_that_is_not_here_is_an_error_since_onnxruntime_would_use_another(
    tmp_path: Path,
) -> None:
    models.install(tmp_path, models.linear_model())
    path = tmp_path / "model.onnx"
    with pytest.warns(UserWarning, match="not in available"):
        quietly = onnxruntime.InferenceSession(str(path), providers=[TENSORRT, CPU])

    assert quietly.get_providers() == [CPU]
    with pytest.raises(ModelError, match=f"onnxruntime has no {TENSORRT} here"):
        Session(path, providers=(TENSORRT, CPU), engines=tmp_path)
    assert Session(path, providers=(CPU,), engines=tmp_path).signature.inputs
