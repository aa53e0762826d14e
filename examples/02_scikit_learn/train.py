"""Train a scikit-learn model; write it as two bundles that differ in how it is kept.

work/joblib/         a pickle: refused by default
work/skops/          the same model without any code in it
work/request.json    rows that it has not seen, as an application asks for them
work/truth.json      what they are, and how often the model was right here
"""

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import skops.io
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE, WORK = Path(__file__).parent, Path("work")


def write_bundle(directory: Path, examples: Any, model: Any) -> Path:
    """Write all of a bundle but the model's own file; return its directory."""
    shutil.rmtree(directory, ignore_errors=True)
    golden = directory / "golden"
    golden.mkdir(parents=True)
    shutil.copy(HERE / "score.py", directory)
    shutil.copy(HERE / "bundle.yaml", directory)
    packages = ("joblib", "scikit-learn", "skops")
    lines = (f"{name}=={importlib.metadata.version(name)}\n" for name in packages)
    (directory / "requirements.txt").write_text("".join(lines))
    np.savez(golden / "inputs.npz", measurements=examples)
    np.savez(
        golden / "outputs.npz",
        kind=model.predict(examples),
        probability=model.predict_proba(examples),
    )
    return directory


def main() -> None:
    """Train, and write everything below work/."""
    loaded: Any = load_wine()
    rows, unseen, kinds, truth = train_test_split(
        loaded.data, loaded.target.astype(np.int64), test_size=0.4, random_state=0
    )
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, kinds)

    pickled = write_bundle(WORK / "joblib", rows[:8], model)
    joblib.dump(model, pickled / "model.joblib")
    plain = write_bundle(WORK / "skops", rows[:8], model)
    skops.io.dump(model, plain / "model.skops")
    yaml = (plain / "bundle.yaml").read_text()
    (plain / "bundle.yaml").write_text(yaml.replace("model.joblib", "model.skops"))

    tensor = {"name": "measurements", "datatype": "FP64", "shape": list(unseen.shape)}
    request = {"inputs": [{**tensor, "data": unseen.ravel().tolist()}]}
    (WORK / "request.json").write_text(json.dumps(request))
    score = float((model.predict(unseen) == truth).mean())
    (WORK / "truth.json").write_text(json.dumps({"kind": truth.tolist(), "accuracy": score}))
    print(f"trained: accuracy {score:.4f} on rows that it has not seen")


if __name__ == "__main__":
    main()
