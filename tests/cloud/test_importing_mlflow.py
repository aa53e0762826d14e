"""MLflow model directories, saved by MLflow itself, become bundles that answer as they did."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

from cloud.importing import opening
from runtime.bundle import policy
from runtime.bundle.build import build
from runtime.bundle.index import TensorSpec
from runtime.errors import InvalidError
from runtime.inference import tensors
from runtime.inference.check import run_check
from runtime.inference.model import Model
from tests.support import documents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

IRIS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("mlflow")
    subprocess.run(
        [sys.executable, "-m", "tests.support.mlflow_models", str(place)],
        cwd=documents.ROOT,
        check=True,
        capture_output=True,
        timeout=300,
    )
    return place


def made(saved: Path, name: str, target: Path, *allow: str) -> opening.Opened:
    target.mkdir()
    return opening.write(saved / name, target, "iris", allow)


def altered(saved: Path, name: str, tmp_path: Path, **changes: Any) -> Path:
    """Return a copy of a model directory whose MLmodel says something else."""
    copy = tmp_path / "altered"
    shutil.copytree(saved / name, copy)
    said = yaml.safe_load((copy / "MLmodel").read_text())
    (copy / "MLmodel").write_text(yaml.safe_dump({**said, **changes}))
    return copy


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the libraries
@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("onnx", "onnx", ((), ())),
        ("skops", "python", (("entry-script",), ("scikit-learn>=1", "pandas", "skops"))),
        ("pickled", "python", (("entry-script", "pickle"), ("scikit-learn",))),
        ("unsaid", "python", (("entry-script",), ("scikit-learn", "skops"))),
        ("xgb-class", "python", (("entry-script",), ("scikit-learn", "xgboost"))),
        ("xgb-columns", "python", (("entry-script",), ("scikit-learn", "xgboost"))),
        ("xgb-booster", "python", (("entry-script",), ("xgboost",))),
        ("lgb-booster", "python", (("entry-script",), ("lightgbm",))),
        (
            "lgb-class",
            "python",
            (("entry-script",), ("lightgbm", "pandas", "scikit-learn", "skops")),
        ),
        ("pyfunc", "python", (("entry-script", "pickle"), ("mlflow-skinny",))),
    ],
)
def test_a_bundle_answers_as_the_model_did(
    saved: Path,
    tmp_path: Path,
    name: str,
    kind: str,
    expected: tuple[tuple[str, ...], tuple[str, ...]],
) -> None:
    """`expected`: what it needs, and what it requires."""
    found = made(saved, name, tmp_path / "bundle", "pickle")
    index = build(found.directory).index
    said = json.loads((saved / f"{name}.json").read_text())
    only_input = index.signature.inputs[0].name
    inputs = {
        (only_input if key == "input" else key): values for key, values in said["inputs"].items()
    }

    model = Model.load(found.directory, index)
    answer = model.predict(tensors.conform(index.signature, inputs))

    first = next(iter(answer.values()))
    assert np.allclose(first, said["answer"], rtol=1e-5, atol=1e-6)
    assert run_check(model, found.directory, index).ok
    assert index.check is not None
    assert index.check.outputs is not None
    assert index.kind == kind
    assert (policy.needs(index), index.requirements) == expected


@pytest.mark.parametrize("name", ["skops", "lgb-class", "xgb-class", "lgb-booster"])
def test_what_is_no_pickle_runs_where_pickles_are_refused(
    saved: Path, tmp_path: Path, name: str
) -> None:
    """In a process of its own: what refuses them cannot be taken back."""
    directory = made(saved, name, tmp_path / "bundle").directory
    code = (
        "import sys; from pathlib import Path\n"
        "from runtime.bundle.build import build; from runtime.inference import pickles\n"
        "from runtime.inference.check import run_check; from runtime.inference.model import Model\n"
        "pickles.refuse('')\n"
        "place = Path(sys.argv[1]); index = build(place).index\n"
        "print(run_check(Model.load(place, index), place, index).ok)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        cwd=documents.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert run.stdout == "True\n", run.stderr


def test_columns_become_inputs_and_everything_mlflow_wrote_is_kept(
    saved: Path, tmp_path: Path
) -> None:
    index = build(made(saved, "skops", tmp_path / "bundle").directory).index

    assert index.signature.inputs == tuple(TensorSpec(name, "FP64", (-1,)) for name in IRIS)
    assert index.signature.outputs == (TensorSpec("output", "INT64", (-1,)),)
    assert {"mlflow/MLmodel", "mlflow/conda.yaml", "mlflow/input_example.json"} < {
        entry.path for entry in index.files
    }
    assert index.metadata["mlflow.python_version"].startswith("3.")
    assert len(index.metadata["mlflow.model_uuid"]) == 32


def test_text_columns_reach_the_pipeline_as_a_table(saved: Path, tmp_path: Path) -> None:
    found = made(saved, "words", tmp_path / "bundle", "pickle")
    index = build(found.directory).index

    assert index.signature.inputs[-1] == TensorSpec("colour", "BYTES", (-1,))
    assert run_check(Model.load(found.directory, index), found.directory, index).ok


def test_a_pickle_is_not_loaded_here_unless_that_is_allowed(saved: Path, tmp_path: Path) -> None:
    found = made(saved, "pickled", tmp_path / "bundle")
    index = build(found.directory).index

    assert index.check is not None
    assert index.check.outputs is None
    assert "--allow pickle loads it here" in " ".join(found.notes)


def test_outputs_that_nobody_described_are_learned_by_running_the_model(
    saved: Path, tmp_path: Path
) -> None:
    index = build(made(saved, "unsaid", tmp_path / "bundle").directory).index

    assert index.signature.outputs == (TensorSpec("output", "INT64", (-1,)),)


def test_requirements_that_are_no_packages_are_told(saved: Path, tmp_path: Path) -> None:
    notes = made(saved, "pyfunc", tmp_path / "bundle", "pickle").notes

    assert any("tiny @ https://example.org/tiny.whl was left out" in note for note in notes)


def test_the_same_model_gives_the_same_bundle(saved: Path, tmp_path: Path) -> None:
    first = build(made(saved, "xgb-class", tmp_path / "first").directory)
    second = build(made(saved, "xgb-class", tmp_path / "second").directory)

    assert first.digest == second.digest


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("skops", {"signature": None}, r"signature\.inputs: .*infer_signature"),
        ("pickled", {"signature": {"inputs": '[{"type": "double", "name": "a"}]'}}, "outputs: "),
        ("skops", {"signature": {"inputs": "[{]"}}, "save the model again"),
        ("skops", {"signature": {"inputs": "[]"}}, "list 1 to"),
        ("skops", {"signature": {"inputs": '[{"type": "binary"}]'}}, "columns may be boolean"),
        ("skops", {"signature": {"inputs": '[{"type": "tensor"}]'}}, "save the model again"),
        (
            "skops",
            {"signature": {"inputs": '[{"type": "long"}, {"type": "long"}]'}},
            "give each its own name",
        ),
        ("skops", {"flavors": {}}, "save it with a python_function flavor"),
        ("skops", {"flavors": ["x"]}, "it names no flavors"),
        ("onnx", {"flavors": {"onnx": {"data": "../model.onnx"}}}, "relative path"),
        ("onnx", {"flavors": {"onnx": {}}}, "its flavor names no data"),
        (
            "skops",
            {
                "flavors": {
                    "sklearn": {"pickled_model": "m.pkl"},
                    "python_function": {"predict_fn": "__reduce__"},
                }
            },
            "predict_fn: '__reduce__'",
        ),
    ],
)
def test_what_cannot_become_a_bundle_is_refused_by_name(
    saved: Path, tmp_path: Path, name: str, changes: dict[str, Any], says: str
) -> None:
    source = altered(saved, name, tmp_path, **changes)
    (tmp_path / "bundle").mkdir()

    with pytest.raises(InvalidError, match=says):
        opening.write(source, tmp_path / "bundle", "iris")


def test_an_example_that_does_not_fit_is_told_and_left_out(saved: Path, tmp_path: Path) -> None:
    source = altered(saved, "xgb-class", tmp_path)
    (source / "input_example.json").write_text("[[1, 2]]")
    (tmp_path / "bundle").mkdir()

    found = opening.write(source, tmp_path / "bundle", "iris")

    assert build(found.directory).index.check is None
    assert any("the input example is no check: " in note for note in found.notes)


@pytest.mark.parametrize("text", [":", "- a", "x" * ((1 << 20) + 1), "[" * 5000])
def test_an_mlmodel_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    (tmp_path / "bundle").mkdir()

    with pytest.raises(InvalidError, match="MLmodel"):
        opening.write(tmp_path, tmp_path / "bundle", "iris")


def test_a_trusted_type_that_is_not_known_is_not_made_here(saved: Path, tmp_path: Path) -> None:
    flavors = yaml.safe_load((saved / "skops" / "MLmodel").read_text())["flavors"]
    flavors["sklearn"]["skops_trusted_types"] = ["os.system"]
    source = altered(saved, "skops", tmp_path, flavors=flavors)
    (tmp_path / "bundle").mkdir()

    found = opening.write(source, tmp_path / "bundle", "iris")
    index = build(found.directory).index

    assert index.check == msgspec.structs.replace(index.check, outputs=None)
    assert 'trusted=["os.system"]' in (found.directory / "score.py").read_text()
