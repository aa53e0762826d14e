"""Trains the demo's models and writes what the rest of the demo needs:

    DIRECTORY/digits-1/      a bundle: a small neural network that has seen few images
    DIRECTORY/digits-2/      a bundle: the same network, its head trained on all of them
    DIRECTORY/wrist-motion/  a bundle: six-axis windows to an activity, with its own source
    DIRECTORY/items/         the held-out digits, one image each, and the held-out recordings
    DIRECTORY/truth.json     labels of the held-out data; no device sees it

Runs as a process of its own (`python -m cloud.demo.train DIRECTORY`), so that it works while the
registry starts.
"""

import copy
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloud.demo import data, wrist

CHECKED = 8
"""How many golden inputs each bundle carries."""
RECORDINGS = "motions.npz"
FEW = 40
"""Images that version 1 of digits is trained on."""
HIDDEN = 256
DEEPEST_INK, WHITE = 16, 240
"""The darkest value in the data, and the pixel value that stands for it."""
DIGITS_SOURCE = f"directory:digits?pattern=*.png&scale={DEEPEST_INK / WHITE:.7f}"


def train_all(directory: Path) -> None:
    """Train the three models and write everything below `directory`."""
    digits = data.digits()
    truth: dict[str, Any] = {
        "digits": _write_items(directory / "items", digits),
        "wrist-motion": _write_recordings(directory / "items"),
    }
    weak = _weak(digits)
    for version, model in (("1", weak), ("2", _better(digits, weak))):
        _bundle(
            directory / f"digits-{version}",
            name="digits",
            extra={
                "sources": [DIGITS_SOURCE],
                "description": "A scan of 8 by 8 pixels to a digit.",
            },
            model=model,
            example=("image", digits.train_images),
        )
    _motion_bundle(directory / "wrist-motion")
    (directory / "truth.json").write_text(json.dumps(truth))


def _weak(digits: data.Digits) -> Any:
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - slow, see data.digits

    model: Any = MLPClassifier((HIDDEN,), max_iter=300, random_state=0)
    return model.fit(digits.train_images[:FEW], digits.train_labels[:FEW])


def _better(digits: data.Digits, weak: Any) -> Any:
    """Return the weak network with another head: the features stay, as in transfer learning."""
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - slow, see data.digits

    features = np.maximum(0, digits.train_images @ weak.coefs_[0] + weak.intercepts_[0])
    head: Any = MLPClassifier((), max_iter=300, random_state=0)
    head.fit(features, digits.train_labels)
    model = copy.deepcopy(weak)
    model.coefs_[1], model.intercepts_[1] = head.coefs_[0], head.intercepts_[0]
    return model


def _motion_bundle(directory: Path) -> None:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow, see data.digits
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    recordings = data.motions("TRAIN")
    rows, labels = [], []
    for readings, label in zip(recordings.readings, recordings.labels, strict=True):
        for window in wrist.windows(readings):
            rows.append(wrist.features(window))
            labels.append(label)
    features = np.stack(rows)
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    _bundle(
        directory,
        name="wrist-motion",
        extra={
            "entry": "wrist.py",
            "sources": ["entry:source"],
            "description": "Five seconds of wrist motion to an activity.",
        },
        model=model.fit(features, labels),
        example=("features", features),
    )
    shutil.copyfile(Path(wrist.__file__), directory / "wrist.py")


def _bundle(
    directory: Path,
    *,
    name: str,
    extra: dict[str, Any],
    model: Any,
    example: tuple[str, NDArray[np.float32]],
) -> None:
    """Write a bundle whose check holds the outputs that scikit-learn's own model gives."""
    from skl2onnx import to_onnx  # noqa: PLC0415 - slow, see data.digits
    from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415

    input_name, examples = example
    golden = directory / "golden"
    golden.mkdir(parents=True)
    converted = to_onnx(
        model,
        initial_types=[(input_name, FloatTensorType([None, examples.shape[1]]))],
        options={id(model): {"zipmap": False}},
    )
    (directory / "model.onnx").write_bytes(converted.SerializeToString())
    inputs = examples[:: max(1, len(examples) // CHECKED)][:CHECKED]
    golden_inputs: dict[str, Any] = {input_name: inputs}
    np.savez(golden / "inputs.npz", **golden_inputs)
    np.savez(golden / "outputs.npz", label=model.predict(inputs))
    spec = {
        "name": name,
        "kind": "onnx",
        "model": "model.onnx",
        "check": {"inputs": "golden/inputs.npz", "outputs": "golden/outputs.npz", "p95_ms": 250},
        "resources": {"memory_mb": 512},
        "tags": {"made-by": "packhorse-demo"},
        **extra,
    }
    # JSON is YAML, and needs no library here.
    (directory / "bundle.yaml").write_text(json.dumps(spec, indent=2) + "\n")


def _write_items(directory: Path, digits: data.Digits) -> dict[str, int]:
    """Write each held-out digit as an image of its own; return file name to label."""
    directory.mkdir(parents=True)
    truth = {}
    for number, (image, label) in enumerate(
        zip(digits.held_out_images, digits.held_out_labels, strict=True)
    ):
        name = f"digit-{number:04d}.png"
        pixels = np.rint(image.reshape(8, 8) * (WHITE / DEEPEST_INK)).astype(np.uint8)
        Image.fromarray(pixels).save(directory / name)
        truth[name] = int(label)
    return truth


def _write_recordings(directory: Path) -> list[str]:
    """Write the held-out recordings; return the label of each."""
    recordings = data.motions("TEST")
    np.savez(directory / RECORDINGS, readings=recordings.readings)
    return list(recordings.labels)


if __name__ == "__main__":
    train_all(Path(sys.argv[1]))
