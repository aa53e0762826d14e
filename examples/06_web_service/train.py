"""Train two versions of a model that foresees how diabetes progresses; write each as a bundle.

work/progression-1/   a shallow regression tree
work/progression-2/   a boosted one
work/request.json     patients that neither has seen, in the Open Inference Protocol
work/rows.json        three of them as rows with named columns, for /score
work/truth.json       what became of them, and how far off each version was here
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeRegressor

WORK = Path("work")
COLUMNS = ("age", "sex", "bmi", "pressure", "tc", "ldl", "hdl", "tch", "ltg", "glucose")
BUNDLE = """\
name: progression
kind: onnx
model: model.onnx
description: {description}
check:
  inputs: golden/inputs.npz
  outputs: golden/outputs.npz
resources: {{memory_mb: 512, cpu: 1}}
metadata:
  columns: {columns}
  mean_error: "{error:.2f}"
"""


def write_bundle(version: int, description: str, model: Any, examples: Any, error: float) -> None:
    """Write a bundle: the model as ONNX, its bundle.yaml, and a check that it must pass."""
    directory = WORK / f"progression-{version}"
    shutil.rmtree(directory, ignore_errors=True)
    golden = directory / "golden"
    golden.mkdir(parents=True)
    width = [None, len(COLUMNS)]
    converted = to_onnx(
        model,
        initial_types=[("patient", FloatTensorType(width))],
        final_types=[("progression", FloatTensorType([None, 1]))],
    )
    (directory / "model.onnx").write_bytes(converted.SerializeToString())
    (directory / "bundle.yaml").write_text(
        BUNDLE.format(description=description, columns=", ".join(COLUMNS), error=error)
    )
    np.savez(golden / "inputs.npz", patient=examples)
    expected = model.predict(examples).astype(np.float32).reshape(-1, 1)
    np.savez(golden / "outputs.npz", progression=expected)


def main() -> None:
    """Train, and write everything below work/."""
    loaded: Any = load_diabetes(scaled=False)
    patients, unseen, progress, truth = train_test_split(
        loaded.data.astype(np.float32), loaded.target, test_size=0.4, random_state=0
    )
    tree: Any = DecisionTreeRegressor(max_depth=2, random_state=0)
    boosted: Any = GradientBoostingRegressor(
        n_estimators=60, max_depth=2, learning_rate=0.08, random_state=0
    )
    errors = {}
    for version, description, model in ((1, "A tree.", tree), (2, "A boosted tree.", boosted)):
        model.fit(patients, progress)
        errors[version] = float(np.abs(model.predict(unseen) - truth).mean())
        write_bundle(version, description, model, patients[:8], errors[version])
        print(f"trained: version {version} is off by {errors[version]:.2f} on unseen patients")

    tensor = {"name": "patient", "datatype": "FP32", "shape": list(unseen.shape)}
    request = {"inputs": [{**tensor, "data": unseen.ravel().tolist()}]}
    (WORK / "request.json").write_text(json.dumps(request))
    rows = [
        dict(zip(COLUMNS, row, strict=True)) for row in unseen[:3].astype(float).round(4).tolist()
    ]
    (WORK / "rows.json").write_text(json.dumps({"rows": rows}))
    (WORK / "truth.json").write_text(json.dumps({"progression": truth.tolist(), "errors": errors}))


if __name__ == "__main__":
    main()
