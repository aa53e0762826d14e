"""Train two versions of a model that reads handwritten digits; write each as a bundle.

work/digits-1/      a shallow decision tree
work/digits-2/      a small neural network
work/images/        300 images that neither has seen
work/labels.csv     what they show
work/request.json   one of them, as an application asks for it
"""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

WORK = Path("work")
HELD_OUT = 300
BUNDLE = """\
name: digits
kind: onnx
model: model.onnx
description: {description}
sources:
  - directory:digits?pattern=*.png&scale=0.0666667   # pixels of 0 to 240 become 0 to 16
check:
  inputs: golden/inputs.npz
  outputs: golden/outputs.npz
resources: {{memory_mb: 512}}
"""


def write_bundle(directory: Path, description: str, model: Any, examples: Any) -> None:
    """Write a bundle: the model as ONNX, its bundle.yaml, and a check that it must pass."""
    golden = directory / "golden"
    golden.mkdir(parents=True, exist_ok=True)
    converted = to_onnx(
        model,
        initial_types=[("image", FloatTensorType([None, 64]))],
        options={id(model): {"zipmap": False}},  # plain tensors, not a list of dictionaries
    )
    (directory / "model.onnx").write_bytes(converted.SerializeToString())
    (directory / "bundle.yaml").write_text(BUNDLE.format(description=description))
    np.savez(golden / "inputs.npz", image=examples)
    np.savez(golden / "outputs.npz", label=model.predict(examples))


def main() -> None:
    """Train, and write everything below work/."""
    loaded: Any = load_digits()
    images, labels = loaded.data.astype(np.float32), loaded.target.astype(np.int64)
    train, train_labels = images[HELD_OUT:], labels[HELD_OUT:]

    tree: Any = DecisionTreeClassifier(max_depth=5, random_state=0).fit(train, train_labels)
    write_bundle(WORK / "digits-1", "A shallow tree.", tree, train[:8])
    network: Any = MLPClassifier((64,), max_iter=300, random_state=0).fit(train, train_labels)
    write_bundle(WORK / "digits-2", "A small neural network.", network, train[:8])

    (WORK / "images").mkdir(exist_ok=True)
    with (WORK / "labels.csv").open("w", newline="") as file:
        for number in range(HELD_OUT):
            pixels = np.rint(images[number].reshape(8, 8) * 15).astype(np.uint8)
            Image.fromarray(pixels).save(WORK / "images" / f"{number:03d}.png")
            csv.writer(file).writerow([f"{number:03d}.png", labels[number]])
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 64], "data": images[0].tolist()}
    (WORK / "request.json").write_text(json.dumps({"id": "first", "inputs": [tensor]}))


if __name__ == "__main__":
    main()
