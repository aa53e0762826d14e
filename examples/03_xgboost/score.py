"""What the device runs: load the model once, then answer."""

from typing import Any

import xgboost

model: Any = None


def init(context: Any) -> None:
    """Load `model:` of bundle.yaml: XGBoost's own format holds numbers, no code."""
    global model  # noqa: PLW0603 - init and run share it
    model = xgboost.Booster(model_file=str(context.model))


def run(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the progression of each patient."""
    return {"progression": model.predict(xgboost.DMatrix(inputs["patient"]))}
