"""Versions of a bundle for simulated devices: small, registered as any other, never loaded."""

import random
from pathlib import Path

MODEL = "simulated"
WEIGHTS_BYTES = 64 * 1024
_YAML = f"""name: {MODEL}
kind: python
model: weights.bin
entry: score.py
signature:
  inputs:
    - {{name: x, datatype: FP32, shape: [-1, 4]}}
  outputs:
    - {{name: y, datatype: FP32, shape: [-1, 4]}}
"""
_ENTRY = '''"""Gives back what it is given: simulated devices never load it."""


def init(model_directory):
    return None


def run(inputs):
    return {"y": inputs["x"]}
'''


def write(directory: Path, version: int, seed: int) -> Path:
    """Write a version's directory; the same seed writes the same bytes."""
    directory.mkdir(parents=True)
    (directory / "bundle.yaml").write_text(_YAML, "utf-8")
    (directory / "score.py").write_text(_ENTRY, "utf-8")
    drawn = random.Random(f"{seed}/{version}")  # noqa: S311 - repeatable, guards nothing
    (directory / "weights.bin").write_bytes(drawn.randbytes(WEIGHTS_BYTES))
    return directory
