from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.errors import InvalidError, ModelError
from runtime.inference import quantize
from runtime.inference.session import Session
from runtime.inference.tensors import Array

ROWS = 64


def classifier(path: Path, *, features: int = 16, classes: int = 4) -> Path:
    """Write a network of two layers."""
    rng = np.random.default_rng(1)
    first = rng.standard_normal((features, 64)).astype(np.float32)
    second = rng.standard_normal((64, classes)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "first"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "second"], ["scores"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def rows(features: int = 16) -> quantize.Arrays:
    return {"x": np.random.default_rng(2).standard_normal((ROWS, features)).astype(np.float32)}


@pytest.mark.parametrize("examples", [rows(), None], ids=["static", "dynamic"])
def test_int8_takes_and_gives_the_same_and_is_smaller(
    tmp_path: Path, examples: quantize.Arrays | None
) -> None:
    model, target = classifier(tmp_path / "m.onnx", features=16), tmp_path / "m.int8.onnx"

    quantize.int8(model, target, examples)

    was, now = Session(model), Session(target)
    assert now.signature == was.signature
    types = {each.data_type for each in onnx.load(target).graph.initializer}
    assert TensorProto.INT8 in types
    lost = quantize.loss(was.run(rows()), now.run(rows()))
    assert (lost.metric, lost.rows) == ("disagreement", ROWS)
    assert 0 <= lost.value < 0.2


def test_what_cannot_be_quantised_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    model, target = tmp_path / "m.onnx", tmp_path / "m.int8.onnx"
    model.write_bytes(b"no model")

    with pytest.raises(ModelError, match=r"m\.onnx"):
        quantize.int8(model, target, None)
    assert not target.exists()


@pytest.mark.parametrize(
    ("wanted", "got", "metric", "value"),
    [
        (np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4]), "disagreement", 0.25),
        (np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32)[::-1], "disagreement", 1.0),
        (np.array([0.0, 2.0]), np.array([1.0, 3.0]), "error", 1.0),
        (np.array([[5.0], [5.0]]), np.array([[5.5], [5.5]]), "error", 0.5),
        (np.array([]), np.array([]), "error", 0.0),
    ],
)
def test_a_loss_counts_classes_and_measures_numbers(
    wanted: Array, got: Array, metric: str, value: float
) -> None:
    lost = quantize.loss({"y": wanted}, {"y": got})

    assert (lost.metric, pytest.approx(lost.value)) == (metric, value)


def test_the_output_that_loses_most_counts() -> None:
    wanted = {"label": np.array([1, 2]), "value": np.array([0.0, 2.0])}
    got = {"label": np.array([1, 2]), "value": np.array([0.5, 2.5])}

    assert quantize.loss(wanted, got).metric == "error"


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(InvalidError, match="at least one output"):
        quantize.loss({}, {})
