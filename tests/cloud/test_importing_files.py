"""A model file alone becomes a bundle."""

from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pytest
import xgboost

from cloud.importing import opening
from runtime.bundle.build import build
from runtime.bundle.index import Index, TensorSpec
from runtime.errors import InvalidError
from runtime.inference.check import run_check
from runtime.inference.model import Model
from tests.support import models, scripts
from tests.support.bundle_sources import write_bundle, write_model

ROWS = np.random.default_rng(0).random((64, 3), dtype=np.float32)
LABELS = (ROWS.sum(axis=1) > 1.5).astype(np.int64)


def trees(path: Path) -> Path:
    xgboost.train({"max_depth": 2}, xgboost.DMatrix(ROWS, LABELS), 3).save_model(path)
    return path


def light_trees(path: Path) -> Path:
    data = lightgbm.Dataset(ROWS, LABELS, params={"min_data_in_leaf": 2})
    lightgbm.train({"verbose": -1}, data, 3).save_model(path)
    return path


def index_of(path: Path, name: str | None = None) -> Index:
    with opening.opened(path, name) as found:
        index = build(found.directory).index
        assert run_check(Model.load(found.directory, index), found.directory, index).ok
        return index


def test_an_onnx_file_needs_no_more_than_itself(tmp_path: Path) -> None:
    index = index_of(models.write(tmp_path / "Wear Model_2.onnx", models.linear_model()))

    assert (index.name, index.kind, index.model) == ("wear-model-2", "onnx", "Wear Model_2.onnx")


@pytest.mark.parametrize("location", ["weights.bin", "sub/weights.bin"])
def test_its_external_data_comes_along(tmp_path: Path, location: str) -> None:
    (tmp_path / "sub").mkdir()
    write_model(tmp_path / "wear.onnx", external=location)
    (tmp_path / "unrelated.bin").write_bytes(b"stays here")

    index = index_of(tmp_path / "wear.onnx", "named")

    assert index.name == "named"
    assert [entry.path for entry in index.files] == sorted(["bundle.yaml", "wear.onnx", location])


def test_external_data_that_is_missing_is_named(tmp_path: Path) -> None:
    write_model(tmp_path / "wear.onnx", external="weights.bin")
    (tmp_path / "weights.bin").unlink()

    with (
        pytest.raises(InvalidError, match=r"it needs weights\.bin, which is not beside it"),
        opening.opened(tmp_path / "wear.onnx", None),
    ):
        pass


@pytest.mark.filterwarnings("ignore:.*Saving model in the:UserWarning")
@pytest.mark.parametrize(
    ("name", "write", "datatype"),
    [
        ("trees.ubj", trees, "FP32"),
        ("trees.json", trees, "FP32"),
        ("trees.txt", light_trees, "FP64"),
        ("trees.lgb", light_trees, "FP64"),
    ],
)
def test_trees_in_their_librarys_own_format_say_themselves_what_they_take(
    tmp_path: Path, name: str, write: Callable[[Path], Path], datatype: str
) -> None:
    index = index_of(write(tmp_path / name))

    assert (index.kind, index.entry, index.needs) == ("python", "score.py", ())
    assert index.signature.inputs == (TensorSpec("input", "FP32", (-1, 3)),)
    assert index.signature.outputs == (TensorSpec("output", datatype, (-1,)),)  # type: ignore[arg-type]  # a literal
    assert index.requirements[0].startswith(("xgboost>=3", "lightgbm>=4"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wear.pkl", "put it into a directory with a score.py and a bundle.yaml such as"),
        ("wear.joblib", "kind: python\nmodel: wear.joblib\nentry: score.py"),
        ("wear.h5", "give a file of .onnx, "),
        ("wear.json", "xgboost does not load it"),
        ("wear.txt", "lightgbm does not load it"),
        ("wear.onnx", "does not load in onnxruntime"),
        ("model.onnx", "--name my-model"),
        ("___.onnx", "--name my-model"),
        ("bundle.yaml", "give the directory"),
    ],
)
def test_what_is_not_understood_is_told_what_to_write(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(b"{}")

    with (
        pytest.raises(InvalidError) as caught,
        opening.opened(tmp_path / name, None) as found,
    ):
        build(found.directory)

    assert says in str(caught.value)


def test_the_example_that_is_shown_is_right(tmp_path: Path) -> None:
    (tmp_path / "wear.pkl").write_bytes(b"")
    with pytest.raises(InvalidError) as caught, opening.opened(tmp_path / "wear.pkl", None):
        pass
    (tmp_path / "bundle.yaml").write_text(str(caught.value).partition("such as\n\n")[2])
    (tmp_path / "score.py").write_text(scripts.SCRIPT)
    (tmp_path / "requirements.txt").write_text("numpy\n")

    assert build(tmp_path).index.name == "wear"


def test_a_bundle_is_taken_as_it_is(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path)

    with opening.opened(bundle, None) as found:
        assert (found.directory, found.written, found.notes) == (bundle, "", ())
    with (
        pytest.raises(InvalidError, match=r"its bundle\.yaml says scale: change it there"),
        opening.opened(bundle, "other"),
    ):
        pass


def test_nothing_at_all_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidError, match="there is nothing there"),
        opening.opened(tmp_path / "gone", None),
    ):
        pass
    with (
        pytest.raises(InvalidError, match="there is none; write one such as"),
        opening.opened(tmp_path, None) as found,
    ):
        build(found.directory)
