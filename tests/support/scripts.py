"""Bundle directories of kind python, as an author would lay them out.

The script takes x FP32[-1, 4] to y FP32[-1]: the sum of each row, times what `model` says.
"""

import io
import zipfile
from pathlib import Path

import numpy as np

SCRIPT = """
import json
import numpy as np

def init(context):
    global factor
    factor = json.loads(context.model.read_text())["factor"]

def run(inputs):
    return {"y": inputs["x"].sum(axis=1) * np.float32(factor)}
"""
SIGNATURE = """signature:
  inputs: [{name: x, datatype: FP32, shape: [-1, 4]}]
  outputs: [{name: y, datatype: FP32, shape: [-1]}]
"""
CHECK = "check: {inputs: inputs.npz, outputs: outputs.npz}\n"


def write(
    directory: Path,
    *,
    name: str = "total",
    script: str = SCRIPT,
    factor: float = 2.0,
    yaml: str = SIGNATURE + CHECK,
) -> Path:
    """Write a bundle with a check; `yaml` is what follows kind, entry and model."""
    directory.mkdir(parents=True, exist_ok=True)
    head = f"name: {name}\nkind: python\nentry: score.py\nmodel: model.json\n"
    (directory / "bundle.yaml").write_text(head + yaml)
    (directory / "score.py").write_text(script)
    (directory / "model.json").write_text(f'{{"factor": {factor}}}')
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.savez(directory / "inputs.npz", x=x)
    np.savez(directory / "outputs.npz", y=x.sum(axis=1) * np.float32(factor))
    return directory


def wheel(directory: Path, files: dict[str, str], *, name: str, version: str = "1.0") -> Path:
    """Write a wheel of pure Python with these files; return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in files.items():
            archive.writestr(member, text)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def zipped(**members: bytes) -> bytes:
    """Return a zip with these members; '__' in a name stands for '.'."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return buffer.getvalue()
