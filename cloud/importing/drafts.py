"""A bundle directory that we write for somebody else's model: bundle.yaml, script, golden arrays.

bundle.yaml
score.py                 kind python
requirements.txt         kind python
golden/inputs.npz        an example, if there is one
golden/outputs.npz       what the model made of it, here
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from runtime.bundle.index import Kind, Signature, TensorSpec
from runtime.bundle.source import SOURCE_NAME
from runtime.errors import InvalidError
from runtime.inference.tensors import Arrays

ENTRY = "score.py"
REQUIREMENTS = "requirements.txt"
INPUTS, OUTPUTS = "golden/inputs.npz", "golden/outputs.npz"
MAX_NAME = 63


@dataclass(frozen=True)
class Draft:
    """What a bundle.yaml will say. Paths are relative to the bundle."""

    name: str
    kind: Kind
    model: str
    script: str = ""
    """Text of the entry script; "": there is none."""
    requirements: Sequence[str] = ()
    signature: Signature | None = None
    """None: it is read from the graph."""
    metadata: Mapping[str, str] = field(default_factory=dict)


def name_for(path: Path, given: str | None) -> str:
    """Return a model's name: the given one, or the file's own in the letters a name may have."""
    if given is not None:
        return given
    stem = path.resolve().name if path.is_dir() else path.stem
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:MAX_NAME].strip("-")
    if not name or name in {"model", "artifacts", "mlflow"}:
        raise InvalidError("name", stem, "say what the model is: --name my-model")
    return name


def write(draft: Draft, directory: Path, *, inputs: Arrays | None, outputs: Arrays | None) -> None:
    """Write all but the model's own files; without `inputs` the bundle has no check."""
    said: dict[str, object] = {"name": draft.name, "kind": draft.kind, "model": draft.model}
    if draft.script:
        said["entry"] = ENTRY
        (directory / ENTRY).write_text(draft.script)
    if draft.requirements:
        said["requirements"] = REQUIREMENTS
        (directory / REQUIREMENTS).write_text("".join(f"{each}\n" for each in draft.requirements))
    if draft.signature is not None:
        said["signature"] = {
            "inputs": [_tensor(spec) for spec in draft.signature.inputs],
            "outputs": [_tensor(spec) for spec in draft.signature.outputs],
        }
    if inputs is not None:
        said["check"] = {"inputs": INPUTS}
        save_arrays(directory / INPUTS, inputs)
        if outputs is not None:
            said["check"] = {"inputs": INPUTS, "outputs": OUTPUTS}
            save_arrays(directory / OUTPUTS, outputs)
    if draft.metadata:
        said["metadata"] = dict(draft.metadata)
    (directory / SOURCE_NAME).write_text("".join(_line(key, said[key]) for key in said))


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Write a .npz, whatever its arrays are called (numpy.savez has names of its own)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # A fixed moment, so that the same arrays are the same bytes.
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            plain = array.astype(np.str_) if array.dtype.kind == "O" else array
            with archive.open(member, "w") as file:
                np.lib.format.write_array(file, np.asarray(plain), allow_pickle=False)


def _line(key: str, value: object) -> str:
    """Return one key of a bundle.yaml: tensors on a line each, the rest as people write it."""
    flow = None if key == "signature" else False
    return yaml.safe_dump(
        {key: value}, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=1000
    )


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
