"""`python -m tests.support.mlflow_models DIRECTORY`: save one model in each of MLflow's flavors.

In a process of its own, because MLflow warns a lot. Beside each directory lies NAME.json: inputs,
and what the model itself answered to them.
"""

import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import lightgbm  # noqa: E402 - its imports warn
import mlflow.lightgbm  # noqa: E402
import mlflow.onnx  # noqa: E402
import mlflow.pyfunc  # noqa: E402
import mlflow.sklearn  # noqa: E402
import mlflow.xgboost  # noqa: E402
import numpy as np  # noqa: E402
import skl2onnx  # noqa: E402
import xgboost  # noqa: E402
from mlflow.models import infer_signature  # noqa: E402
from sklearn.compose import make_column_transformer  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder  # noqa: E402

ROWS = slice(0, 150, 15)


class Doubling(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow has no types here
    """A model of plain Python."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Double it."""
        _ = context, params
        return model_input * 2


def main(place: Path) -> None:
    """Save them all."""
    table, labels = load_iris(return_X_y=True, as_frame=True)
    array = table.to_numpy(np.float32)
    rows, part = array[ROWS], table.iloc[ROWS]

    def tell(name: str, inputs: Mapping[str, Any], answer: Any) -> None:
        plain = {key: np.asarray(value).tolist() for key, value in inputs.items()}
        said = {"inputs": plain, "answer": np.asarray(answer).tolist()}
        (place / f"{name}.json").write_text(json.dumps(said))

    def save(flavor: Any, model: Any, name: str, data: Any, answer: Any, **how: Any) -> None:
        how.setdefault("pip_requirements", [])
        how.setdefault("signature", infer_signature(data, answer))
        flavor.save_model(model, place / name, input_example=data, **how)
        tell(name, {"input": data} if data is rows else data, answer)

    linear = LogisticRegression(max_iter=1000).fit(table, labels)
    wanted = ["mlflow==3.0", "scikit-learn>=1", "pytest", "-c constraints.txt", "pandas"]
    save(mlflow.sklearn, linear, "skops", part, linear.predict(part), pip_requirements=wanted)
    plain = LogisticRegression(max_iter=1000).fit(array, labels)
    save(
        mlflow.sklearn, plain, "pickled", rows, plain.predict_proba(rows),
        serialization_format="cloudpickle", pyfunc_predict_fn="predict_proba",
        pip_requirements=["scikit-learn", "mlflow"],
    )  # fmt: skip
    save(
        mlflow.sklearn, plain, "unsaid", rows, plain.predict(rows), signature=infer_signature(rows)
    )

    classes = xgboost.XGBClassifier(n_estimators=5).fit(array, labels)
    save(mlflow.xgboost, classes, "xgb-class", rows, classes.predict(rows))
    named = xgboost.XGBRegressor(n_estimators=5).fit(table, labels)
    save(mlflow.xgboost, named, "xgb-columns", part, named.predict(part))
    booster = classes.get_booster()
    save(mlflow.xgboost, booster, "xgb-booster", rows, booster.predict(xgboost.DMatrix(rows)))

    light = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(table, labels)
    save(mlflow.lightgbm, light.booster_, "lgb-booster", part, light.booster_.predict(part))
    save(mlflow.lightgbm, light, "lgb-class", part, light.predict(part))

    graph = skl2onnx.to_onnx(plain, rows[:1], options={id(plain): {"zipmap": False}})
    save(
        mlflow.onnx, graph, "onnx", rows, plain.predict(rows),
        signature=infer_signature(rows, {"label": plain.predict(rows)}),
    )  # fmt: skip
    mlflow.pyfunc.save_model(
        place / "pyfunc",
        python_model=Doubling(),
        signature=infer_signature(rows, rows),
        input_example=rows,
        pip_requirements=["mlflow", "tiny @ https://example.org/tiny.whl"],
    )
    tell("pyfunc", {"input": rows}, rows * 2)

    words = part.assign(colour=["red", "blue"] * 5)
    mixed = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough"),
        LogisticRegression(max_iter=1000),
    ).fit(words, labels.iloc[ROWS])
    save(mlflow.sklearn, mixed, "words", words, mixed.predict(words),
         serialization_format="cloudpickle")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
