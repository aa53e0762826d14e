"""What the device runs: load the model once, then answer."""

from typing import Any

import lightgbm

model: Any = None


def init(context: Any) -> None:
    """Load `model:` of bundle.yaml: LightGBM's own format is text."""
    global model  # noqa: PLW0603 - init and run share it
    model = lightgbm.Booster(model_file=str(context.model))


def run(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return of each tumour whether it is benign, and how likely that is."""
    probability = model.predict(inputs["cells"])
    return {"benign": probability > 0.5, "probability": probability}  # noqa: PLR2004 - more likely than not
