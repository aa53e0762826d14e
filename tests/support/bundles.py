"""Bundle directories whose version can be told from what they answer.

The model takes x FP32[-1, 4] to y FP32[-1, 3]: each value is `factor` times the sum of the row.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.support import models

WIDTH = 4


def write(
    directory: Path,
    *,
    factor: float = 1.0,
    name: str = "scale",
    passes: bool = True,
    sources: Sequence[str] = (),
    memory_mb: int | None = None,
) -> Path:
    """Write a bundle with a check that passes, or one that cannot; return its directory."""
    models.write(directory / "model.onnx", models.linear_model(WIDTH, factor=factor))
    x = np.arange(2 * WIDTH, dtype=np.float32).reshape(2, WIDTH)
    y = np.repeat(x.sum(axis=1, keepdims=True) * np.float32(factor), 3, axis=1)
    np.savez(directory / "inputs.npz", x=x)
    np.savez(directory / "outputs.npz", y=y if passes else y + 1000.0)
    lines = [
        f"name: {name}",
        "kind: onnx",
        "model: model.onnx",
        "check:",
        "  inputs: inputs.npz",
        "  outputs: outputs.npz",
    ]
    if sources:
        lines += ["sources:", *(f"  - {source}" for source in sources)]
    if memory_mb is not None:
        lines += ["resources:", f"  memory_mb: {memory_mb}"]
    (directory / "bundle.yaml").write_text("\n".join(lines) + "\n")
    return directory
