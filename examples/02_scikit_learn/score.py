"""What the device runs: load the model once, then answer."""

from typing import Any

import joblib
import skops.io

model: Any = None


def init(context: Any) -> None:
    """Load `model:` of bundle.yaml."""
    global model  # noqa: PLW0603 - init and run share it
    load = skops.io.load if context.model.suffix == ".skops" else joblib.load
    model = load(context.model)


def run(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return kind and probability of each row of measurements."""
    rows = inputs["measurements"]
    return {"kind": model.predict(rows), "probability": model.predict_proba(rows)}
