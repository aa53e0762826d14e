"""An MLflow model directory becomes a bundle: everything in it is kept, below `mlflow/`.

    flavor        becomes                                              MLflow on the device
    onnx          kind onnx                                            no
    xgboost       kind python, loads XGBoost's own file                no
    lightgbm      kind python, loads LightGBM's own file, or skops     no
    sklearn       kind python, loads skops, or a pickle                no
    others        kind python through mlflow.pyfunc                    yes

Tensors keep their names; one without a name is `input` or `output`. Each column of a table becomes
an input of its own, of shape [-1]. The input example becomes the check's inputs; its outputs are
what the model answers here. That loads the model, so for what runs code when it is loaded it is
only done where that is allowed.
"""

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from cloud.importing import drafts, examples, mlmodel, scoring, trial
from cloud.importing.drafts import Draft
from cloud.importing.mlmodel import MlModel
from cloud.importing.scoring import Recipe
from runtime.bundle import arrays, onnxfile, policy
from runtime.bundle.index import Signature
from runtime.errors import InvalidError, ModelError
from runtime.inference.session import Session
from runtime.inference.tensors import Arrays

FOLDER = "mlflow"
MAX_REQUIREMENTS_BYTES = 256 * 1024
_PREDICT = frozenset({
    "predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples",
    "transform",
})  # fmt: skip
_ALWAYS = frozenset({"numpy", "scipy"})
_MLFLOW = frozenset({"mlflow", "mlflow-skinny"})


def make(directory: Path, target: Path, name: str, allow: Collection[str]) -> list[str]:
    """Write a bundle of an MLflow model directory to the empty directory `target`.

    Returns what a person should know of it. Raises InvalidError for a model that cannot be one.
    """
    model = mlmodel.read(directory)
    shutil.copytree(directory, target / FOLDER, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    if "onnx" in model.flavors:
        return _make_onnx(model, target, name)
    notes: list[str] = []
    path, recipe = _recipe(model)
    inputs, columns = model.inputs, model.inputs is not None and model.inputs.columns
    if inputs is None:
        raise mlmodel.no_signature("inputs")
    outputs = model.outputs.specs if model.outputs else ()
    known = Signature(inputs=inputs.specs, outputs=outputs)
    draft = Draft(
        name=name,
        kind="python",
        model=path,
        script=scoring.script(recipe, known, columns=columns, code=_code(model)),
        requirements=_requirements(directory, recipe, known, notes, columns=columns),
        metadata=model.metadata,
    )
    example = _example(target / FOLDER, model, known, notes)
    tried = example is not None and _may_try(recipe, allow, notes)
    answers = _answers(draft, known, target, example, notes, tried=tried)
    drafts.write(
        _with(draft, _whole(known, answers, target)), target, inputs=example, outputs=answers
    )
    return notes


def _make_onnx(model: MlModel, target: Path, name: str) -> list[str]:
    notes: list[str] = []
    path = f"{FOLDER}/{model.file('onnx', 'data')}"
    draft = Draft(name=name, kind="onnx", model=path, metadata=model.metadata)
    try:
        onnxfile.external_data(target / path, path)
        signature = Session(target / path).signature
    except (OSError, ModelError) as error:
        raise InvalidError("model", path, str(error)) from error
    example = _example(target / FOLDER, model, signature, notes)
    answers = _answers(draft, signature, target, example, notes, tried=True)
    drafts.write(draft, target, inputs=example, outputs=answers)
    return notes


def _recipe(model: MlModel) -> tuple[str, Recipe]:
    """Return the model file's path in the bundle, and how it is loaded."""
    if "xgboost" in model.flavors:
        path = model.file("xgboost", "data")
        return f"{FOLDER}/{path}", scoring.xgboost(model.flavor("xgboost", "model_class"))
    if "lightgbm" in model.flavors:
        return _by_suffix(model, "lightgbm", model.file("lightgbm", "data"), "predict")
    if "sklearn" in model.flavors:
        predict = model.flavor("python_function", "predict_fn") or "predict"
        if predict not in _PREDICT:
            raise InvalidError(f"{mlmodel.FILE} predict_fn", predict, f"use {sorted(_PREDICT)}")
        return _by_suffix(model, "sklearn", model.file("sklearn", "pickled_model"), predict)
    if "python_function" not in model.flavors:
        found = ", ".join(model.flavors)
        raise InvalidError(
            f"{mlmodel.FILE} flavors", found, "save it with a python_function flavor"
        )
    path = model.flavor("python_function", "python_model") or mlmodel.FILE
    return f"{FOLDER}/{path}", scoring.pyfunc(FOLDER)


def _by_suffix(model: MlModel, flavor: str, path: str, predict: str) -> tuple[str, Recipe]:
    if path.endswith(".skops"):
        trusted: Any = model.flavors[flavor].get("skops_trusted_types") or []
        recipe = scoring.skops([str(each) for each in trusted], flavor, predict)
    elif flavor == "lightgbm" and not path.endswith((".pkl", ".pickle", ".joblib")):
        recipe = scoring.LIGHTGBM
    else:
        recipe = scoring.pickled(predict)
    return f"{FOLDER}/{path}", recipe


def _code(model: MlModel) -> str:
    code = model.flavor("python_function", "code")
    return f"{FOLDER}/{code}" if code else ""


def _example(folder: Path, model: MlModel, known: Signature, notes: list[str]) -> Arrays | None:
    if model.example is None:
        notes.append("no input example: the bundle has no check (save_model takes input_example)")
        return None
    try:
        return examples.read(folder, model.example, known)
    except InvalidError as error:
        notes.append(f"the input example is no check: {error}")
        return None


def _may_try(recipe: Recipe, allow: Collection[str], notes: list[str]) -> bool:
    if recipe.data_only or policy.PICKLE in policy.granted(allow):
        return True
    notes.append(
        "the model was not loaded, since that runs code in it: the check has no outputs"
        " (--allow pickle loads it here)"
    )
    return False


def _answers(
    draft: Draft,
    known: Signature,
    target: Path,
    example: Arrays | None,
    notes: list[str],
    *,
    tried: bool,
) -> Arrays | None:
    if example is None or not tried:
        return None
    try:
        return trial.outputs_of(draft, known, target, example)
    except ModelError as error:
        notes.append(f"the model does not run here, so the check has no outputs: {error}")
        return None


def _whole(known: Signature, answers: Arrays | None, target: Path) -> Signature:
    """Return the signature with outputs: MLflow's, or else those that the model gave."""
    if known.outputs:
        return known
    if answers is None:
        raise mlmodel.no_signature("outputs")
    drafts.save_arrays(target / drafts.OUTPUTS, answers)
    return Signature(known.inputs, arrays.specs(target / drafts.OUTPUTS, "check.outputs"))


def _with(draft: Draft, signature: Signature) -> Draft:
    return Draft(**{**vars(draft), "signature": signature})


def _requirements(
    directory: Path, recipe: Recipe, known: Signature, notes: list[str], *, columns: bool
) -> Sequence[str]:
    """Return what the script imports, in the versions that MLflow recorded.

    What is pickled may import anything: then all but MLflow itself is kept.
    """
    recorded = _recorded(directory / drafts.REQUIREMENTS, notes)
    if not recipe.needs:
        return [line for name, line in recorded.items() if name not in _MLFLOW]
    framed = columns and scoring.needs_pandas(recipe, known)
    needed: set[str] = {
        canonicalize_name(each) for each in (*recipe.needs, *(["pandas"] if framed else []))
    }
    if "mlflow-skinny" in needed:
        # What it loads may import anything. The whole of MLflow brings the skinny one along.
        recorded = {
            ("mlflow-skinny" if name in _MLFLOW else name): re.sub(
                r"^mlflow\b(?!-)", "mlflow-skinny", line
            )
            for name, line in recorded.items()
        }
        needed |= set(recorded)
    kept = {name: line for name, line in recorded.items() if name in needed | _ALWAYS}
    return [*kept.values(), *sorted(name for name in needed if name not in kept)]


def _recorded(path: Path, notes: list[str]) -> Mapping[str, str]:
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        text = file.read(MAX_REQUIREMENTS_BYTES).decode(errors="replace")
    found: dict[str, str] = {}
    for line in filter(None, (each.partition(" #")[0].strip() for each in text.splitlines())):
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            requirement = None
        if requirement is not None and not requirement.url:
            found[canonicalize_name(requirement.name)] = line
        elif not line.startswith("#"):
            notes.append(f"requirements: {line} was left out: devices know packages and versions")
    return found
