"""Train an XGBoost model and write it as a bundle, in XGBoost's own format.

work/bundle/         the bundle
work/request.json    patients that it has not seen, as an application asks for them
work/truth.json      what became of them, and how well the model did here
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

HERE, WORK = Path(__file__).parent, Path("work")
SETTINGS = {"max_depth": 3, "eta": 0.1, "seed": 0, "nthread": 1}
ROUNDS = 60


def main() -> None:
    """Train, and write everything below work/."""
    loaded: Any = load_diabetes()
    rows, unseen, values, truth = train_test_split(
        loaded.data.astype(np.float32), loaded.target, test_size=0.25, random_state=0
    )
    model = xgboost.train(SETTINGS, xgboost.DMatrix(rows, values), ROUNDS)

    bundle = WORK / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    (bundle / "golden").mkdir(parents=True)
    for name in ("bundle.yaml", "score.py"):
        shutil.copy(HERE / name, bundle)
    (bundle / "requirements.txt").write_text(f"xgboost>={xgboost.__version__}\n")
    model.save_model(bundle / "model.ubj")
    np.savez(bundle / "golden" / "inputs.npz", patient=rows[:8])
    answer = model.predict(xgboost.DMatrix(rows[:8]))
    np.savez(bundle / "golden" / "outputs.npz", progression=answer)

    tensor = {"name": "patient", "datatype": "FP32", "shape": list(unseen.shape)}
    request = {"inputs": [{**tensor, "data": unseen.ravel().tolist()}]}
    (WORK / "request.json").write_text(json.dumps(request))
    score = float(r2_score(truth, model.predict(xgboost.DMatrix(unseen))))
    (WORK / "truth.json").write_text(json.dumps({"progression": truth.tolist(), "r2": score}))
    print(f"trained: R2 {score:.4f} on patients that it has not seen")


if __name__ == "__main__":
    main()
