"""Train a LightGBM model and write it as a bundle, in LightGBM's own format.

work/bundle/         the bundle
work/request.json    tumours that it has not seen, as an application asks for them
work/truth.json      what they were, and how often the model was right here
"""

import json
import shutil
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

HERE, WORK = Path(__file__).parent, Path("work")
SETTINGS = {"objective": "binary", "num_threads": 1, "seed": 0, "verbose": -1}
ROUNDS = 60


def main() -> None:
    """Train, and write everything below work/."""
    loaded: Any = load_breast_cancer()
    rows, unseen, benign, truth = train_test_split(
        loaded.data, loaded.target.astype(np.bool_), test_size=0.4, random_state=0
    )
    model: Any = lightgbm.train(SETTINGS, lightgbm.Dataset(rows, benign), ROUNDS)

    bundle = WORK / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    (bundle / "golden").mkdir(parents=True)
    for name in ("bundle.yaml", "score.py"):
        shutil.copy(HERE / name, bundle)
    (bundle / "requirements.txt").write_text(f"lightgbm>={lightgbm.__version__}\n")
    model.save_model(bundle / "model.txt")
    np.savez(bundle / "golden" / "inputs.npz", cells=rows[:8])
    np.savez(bundle / "golden" / "outputs.npz", probability=model.predict(rows[:8]))

    tensor = {"name": "cells", "datatype": "FP64", "shape": list(unseen.shape)}
    request = {"inputs": [{**tensor, "data": unseen.ravel().tolist()}]}
    (WORK / "request.json").write_text(json.dumps(request))
    score = float(((model.predict(unseen) > 0.5) == truth).mean())  # noqa: PLR2004 - as score.py
    (WORK / "truth.json").write_text(json.dumps({"benign": truth.tolist(), "accuracy": score}))
    print(f"trained: accuracy {score:.4f} on tumours that it has not seen")


if __name__ == "__main__":
    main()
