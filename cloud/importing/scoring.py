"""Entry scripts for models whose libraries we know: how each is loaded, asked and answered.

A script is made of three pieces: `load`, from the library; `table`, from what the model takes; and
`answer`, from what it gives. Its user may go on from there: it is theirs.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.bundle.index import Signature

_XGB_CLASS = re.compile(r"XGB[A-Za-z]+")
UNNAMED = "output"
"""What the only output is called as long as nobody has said its name."""
_HARMLESS = frozenset(
    {
        "collections.OrderedDict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRanker",
        "lightgbm.sklearn.LGBMRegressor",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBRanker",
        "xgboost.sklearn.XGBRegressor",
    }
)
"""What MLflow has skops trust, and making which runs nothing of the file's."""
NUMERIC = frozenset({"BOOL", "INT32", "INT64", "FP32", "FP64"})

_SCRIPT = '''"""{title}"""

{imports}


def init(context):
    """Load the model once."""
    global model
    {path}{load}


def run(inputs):
    """Answer inputs by name with outputs by name."""
    data = {data}
    result = {predict}
    return {answer}
'''


@dataclass(frozen=True)
class Recipe:
    """How a library's model is loaded and asked."""

    title: str
    load: str
    """One line that sets `model`; `context` is at hand."""
    imports: Sequence[str] = ()
    """Lines of imports, beside numpy and pandas."""
    predict: str = "model.predict(data)"
    needs: Sequence[str] = ()
    """Distributions that the script imports, beside numpy and pandas."""
    frames: bool = True
    """A table is given as a pandas DataFrame; False: numbers as one array."""
    data_only: bool = False
    """Loading runs no code of the model's, so that it can be tried where it is imported."""


def script(recipe: Recipe, signature: Signature, *, columns: bool, code: str = "") -> str:
    """Return the text of score.py.

    `columns`: each input is a column of one table; `code`: a folder of modules that it imports.
    """
    framed = columns and needs_pandas(recipe, signature)
    imports = ["import numpy as np", *(["import pandas"] if framed else []), *recipe.imports]
    imports += ["import sys"] if code else []
    return _SCRIPT.format(
        title=recipe.title,
        imports="\n".join(sorted(imports)),
        path=f"sys.path.insert(0, str(context.directory / {_quoted(code)}))\n    " if code else "",
        load=recipe.load,
        data=_data(signature, columns=columns, framed=framed),
        predict=recipe.predict,
        answer=_answer(signature),
    )


def needs_pandas(recipe: Recipe, signature: Signature) -> bool:
    """Say whether a table has to be a DataFrame: by the library, or for its text."""
    return recipe.frames or any(spec.datatype not in NUMERIC for spec in signature.inputs)


def _data(signature: Signature, *, columns: bool, framed: bool) -> str:
    names = [spec.name for spec in signature.inputs]
    if framed:
        return f"pandas.DataFrame({{name: inputs[name] for name in {_quoted(names)}}})"
    if columns:
        return f"np.column_stack([inputs[name] for name in {_quoted(names)}])"
    return f"inputs[{_quoted(names[0])}]" if len(names) == 1 else "inputs"


def _answer(signature: Signature) -> str:
    outputs = signature.outputs
    if not outputs:
        return f"{{{_quoted(UNNAMED)}: np.asarray(result)}}"
    if len(outputs) > 1:
        names = [spec.name for spec in outputs]
        return f"{{name: np.asarray(result[name]) for name in {_quoted(names)}}}"
    flat = ".reshape(-1)" if outputs[0].shape == (-1,) else ""
    return f"{{{_quoted(outputs[0].name)}: np.asarray(result){flat}}}"


def _quoted(value: object) -> str:
    """Return text, or a list of it, as Python has it, in double quotes."""
    return json.dumps(value)


def xgboost(model_class: str) -> Recipe:
    """Return how XGBoost's own formats are loaded: as a Booster, or as a scikit-learn class."""
    name = model_class.rpartition(".")[2]
    if not _XGB_CLASS.fullmatch(name):
        return Recipe(
            title="An XGBoost model in its own format.",
            imports=["import xgboost"],
            load="model = xgboost.Booster(model_file=str(context.model))",
            predict="model.predict(xgboost.DMatrix(data, feature_names=model.feature_names))",
            needs=["xgboost"],
            frames=False,
            data_only=True,
        )
    return Recipe(
        title=f"An XGBoost {name} in its own format.",
        imports=["import xgboost"],
        load=f"model = xgboost.{name}()\n    model.load_model(context.model)",
        predict="model.predict(data, validate_features=False)",
        needs=["xgboost", "scikit-learn"],
        frames=False,
        data_only=True,
    )


LIGHTGBM = Recipe(
    title="A LightGBM model in its own format.",
    imports=["import lightgbm"],
    load="model = lightgbm.Booster(model_file=str(context.model))",
    needs=["lightgbm"],
    frames=False,
    data_only=True,
)


def skops(trusted: Sequence[str], flavor: str, predict: str) -> Recipe:
    """Return how a skops file is loaded; `trusted` are the types it may make beside skops' own."""
    return Recipe(
        title="A scikit-learn model, kept by skops: nothing in the file is run when it is loaded.",
        imports=["import skops.io"],
        load=f"model = skops.io.load(context.model, trusted={_quoted(list(trusted))})",
        predict=f"model.{predict}(data)",
        needs=["skops", "scikit-learn", *(["lightgbm"] if flavor == "lightgbm" else [])],
        data_only=_HARMLESS.issuperset(trusted),
    )


def pickled(predict: str) -> Recipe:
    """Return how a pickle is loaded."""
    return Recipe(
        title="A pickled model. Loading it runs what its publisher put in.",
        imports=["import pickle"],
        load='with context.model.open("rb") as file:\n        model = pickle.load(file)',
        predict=f"model.{predict}(data)",
    )


def pyfunc(folder: str) -> Recipe:
    """Return how MLflow loads whatever it wrote; only this one needs MLflow on the device."""
    return Recipe(
        title="A model that only MLflow itself can load.",
        imports=["import mlflow.pyfunc"],
        load=f"model = mlflow.pyfunc.load_model(str(context.directory / {_quoted(folder)}))",
        needs=["mlflow-skinny"],
    )
