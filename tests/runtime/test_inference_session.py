from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from runtime.bundle.index import TensorSpec
from runtime.errors import ModelError
from runtime.inference.session import Session
from tests.support import models


def test_the_signature_tells_names_datatypes_and_shapes_with_any_size_as_minus_one(
    tmp_path: Path,
) -> None:
    session = Session(models.write(tmp_path / "m.onnx", models.classifier_model()))

    assert session.signature.inputs == (TensorSpec("x", "FP32", (-1, 3)),)
    assert session.signature.outputs == (
        TensorSpec("label", "BYTES", (-1,)),
        TensorSpec("probabilities", "FP32", (-1, 3)),
    )


@pytest.mark.parametrize(
    ("element", "datatype"),
    [
        (TensorProto.BOOL, "BOOL"),
        (TensorProto.UINT8, "UINT8"),
        (TensorProto.UINT16, "UINT16"),
        (TensorProto.UINT32, "UINT32"),
        (TensorProto.UINT64, "UINT64"),
        (TensorProto.INT8, "INT8"),
        (TensorProto.INT16, "INT16"),
        (TensorProto.INT32, "INT32"),
        (TensorProto.INT64, "INT64"),
        (TensorProto.FLOAT16, "FP16"),
        (TensorProto.FLOAT, "FP32"),
        (TensorProto.DOUBLE, "FP64"),
        (TensorProto.STRING, "BYTES"),
    ],
)
def test_every_datatype_of_the_protocol_is_known(
    tmp_path: Path, element: int, datatype: str
) -> None:
    session = Session(models.write(tmp_path / "m.onnx", models.identity_model(element)))

    assert [spec.datatype for spec in session.signature.inputs] == [datatype]


def test_all_outputs_or_the_named_ones_are_given(tmp_path: Path) -> None:
    session = Session(models.write(tmp_path / "m.onnx", models.two_input_model()))
    inputs = {"a": np.float32([[2]]), "b": np.float32([[5]])}

    assert {name: value.tolist() for name, value in session.run(inputs).items()} == {
        "sum": [[7]],
        "product": [[10]],
    }
    assert list(session.run(inputs, ["product"])) == ["product"]


@pytest.mark.parametrize("content", [b"", b"no model at all" * 50, models.mlp_model()[:-300]])
def test_a_corrupt_file_is_named_in_one_line_without_noise(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = models.write(tmp_path / "broken.onnx", content)

    with pytest.raises(ModelError, match=r"broken\.onnx does not load") as caught:
        Session(path)

    text = str(caught.value)
    assert "ONNXRuntimeError" not in text
    assert str(tmp_path) not in text
    assert "\n" not in text
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx does not load"):
        Session(tmp_path / "absent.onnx")


def test_an_operator_that_this_onnxruntime_lacks_is_named(tmp_path: Path) -> None:
    model = models.linear_model().replace(b"MatMul", b"NopMul")

    with pytest.raises(ModelError, match="NopMul"):
        Session(models.write(tmp_path / "m.onnx", model))


def test_a_sequence_output_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = models.write(tmp_path / "m.onnx", models.sequence_model())

    with pytest.raises(ModelError, match=r"output y is a seq\(tensor\(float\)\)"):
        Session(path)


def test_a_provider_that_is_not_here_is_refused_rather_than_replaced(tmp_path: Path) -> None:
    path = models.write(tmp_path / "m.onnx", models.linear_model())

    with pytest.raises(ModelError, match="NoSuchProvider"):
        Session(path, providers=["NoSuchProvider"])


def test_a_failure_at_run_time_is_told_without_source_positions(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    session = Session(models.write(tmp_path / "m.onnx", models.reshape_model()))

    with pytest.raises(ModelError, match="cannot be reshaped") as caught:
        session.run({"x": np.zeros((1, 4), np.float32)})

    assert ".h:" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
