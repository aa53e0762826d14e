"""A model file alone becomes a bundle: bundle.yaml is written for it, and a script if it takes one.

.onnx                          kind onnx; its external data comes along
.ubj, .json, .xgb              XGBoost's own formats
.txt, .lgb                     LightGBM's own format
.pkl, .joblib, .skops, .pt …   refused: only its author knows what it takes; told what to write
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cloud.importing import drafts, scoring, trial
from cloud.importing.drafts import Draft
from cloud.importing.scoring import Recipe
from runtime import files
from runtime.bundle import arrays, onnxfile, pickles
from runtime.bundle.index import Signature, TensorSpec
from runtime.errors import InvalidError, ModelError

if TYPE_CHECKING:
    import types

_SOURCE_PLACE = re.compile(r"^\[[\d:]+\] \S+:\d+: ")
XGBOOST, LIGHTGBM = (".ubj", ".json", ".xgb"), (".txt", ".lgb")
EXAMPLE = """\
name: {name}
kind: python
model: {file}
entry: score.py                  # init(context): load context.model; run(inputs): {{"y": …}}
requirements: requirements.txt
signature:
  inputs: [{{name: x, datatype: FP32, shape: [-1, 4]}}]
  outputs: [{{name: y, datatype: INT64, shape: [-1]}}]
"""


def make(path: Path, target: Path, name: str) -> list[str]:
    """Write a bundle of one model file to the empty directory `target`.

    Returns what a person should know of it. Raises InvalidError for what cannot be one.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        _make_onnx(path, target, name)
        return ["the bundle has no check: `packhorse models init` keeps it for you to add one"]
    shutil.copyfile(path, target / path.name)
    if suffix in XGBOOST:
        _make_table(path, target, name, "xgboost", _xgboost)
    elif suffix in LIGHTGBM:
        _make_table(path, target, name, "lightgbm", _lightgbm)
    else:
        _refuse(path, name)
    return ["the bundle's check holds what the model answers here to numbers made up for it"]


def _refuse(path: Path, name: str) -> None:
    example = EXAMPLE.format(name=name, file=path.name)
    if path.suffix.lower() in {*pickles.SUFFIXES, ".skops"}:
        fix = "only you know what it takes and gives: put it into a directory with a"
        raise InvalidError(
            "model", path.name, f"{fix} score.py and a bundle.yaml such as\n\n{example}"
        )
    known = ", ".join((".onnx", *XGBOOST, *LIGHTGBM))
    raise InvalidError(
        "model",
        path.name,
        f"give a file of {known}, an MLflow model directory, or a directory with a bundle.yaml"
        f" such as\n\n{example}",
    )


def _make_onnx(path: Path, target: Path, name: str) -> None:
    for needed in ("", *onnxfile.external_data(path, path.name)):
        source = path.parent / needed if needed else path
        if not source.is_file():
            raise InvalidError("model", path.name, f"it needs {needed}, which is not beside it")
        place = target / (needed or path.name)
        files.make_directory(place.parent)
        shutil.copyfile(source, place)
    drafts.write(Draft(name, "onnx", path.name), target, inputs=None, outputs=None)


def _make_table(
    path: Path,
    target: Path,
    name: str,
    library: str,
    load: Callable[[Any, str], tuple[Recipe, int]],
) -> None:
    """Write a bundle for a model that takes rows of numbers and says itself how many."""
    module = _imported(library, path)
    try:
        recipe, width = load(module, str(path))
    except (ValueError, _own_error(module)) as error:
        reason = _SOURCE_PLACE.sub("", str(error).strip().splitlines()[0])
        raise InvalidError("model", path.name, f"{library} does not load it: {reason}") from error
    row = TensorSpec("input", "FP32", (-1, width))
    known = Signature((row,), ())
    draft = Draft(
        name,
        "python",
        path.name,
        script=scoring.script(recipe, known, columns=False),
        requirements=[f"{library}>={module.__version__}"],
    )
    inputs = {"input": np.random.default_rng(0).standard_normal((8, width), dtype=np.float32)}
    try:
        outputs = trial.outputs_of(draft, known, target, inputs)
    except ModelError as error:
        raise InvalidError("model", path.name, str(error)) from error
    drafts.save_arrays(target / drafts.OUTPUTS, outputs)
    gives = arrays.specs(target / drafts.OUTPUTS, "check.outputs")
    whole = Draft(**{**vars(draft), "signature": Signature((row,), gives)})
    drafts.write(whole, target, inputs=inputs, outputs=outputs)


def _imported(library: str, path: Path) -> "types.ModuleType":
    import importlib  # noqa: PLC0415 - with the one line that needs it

    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise InvalidError(
            "model",
            path.name,
            f"install {library} here to have its shape read, or write bundle.yaml",
        ) from error


def _own_error(module: Any) -> type[Exception]:
    """Return what a library raises of its own; XGBoost's is a ValueError."""
    found: type[Exception] = getattr(getattr(module, "basic", None), "LightGBMError", ValueError)
    return found


def _xgboost(module: Any, path: str) -> tuple[Recipe, int]:
    return scoring.xgboost(""), int(module.Booster(model_file=path).num_features())


def _lightgbm(module: Any, path: str) -> tuple[Recipe, int]:
    return scoring.LIGHTGBM, int(module.Booster(model_file=path).num_feature())
