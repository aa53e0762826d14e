"""The MLmodel file of an MLflow model directory: read with care, understood in part.

Only what we act on is looked at: flavors, signature, input example, and where it came from.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from runtime import files
from runtime.bundle.index import DataType, TensorSpec
from runtime.errors import InvalidError
from runtime.inference import tensors

FILE = "MLmodel"
MAX_BYTES = 1 << 20
MAX_COLUMNS = 500
"""A bundle.yaml names them all; a wider table is one tensor."""
INPUT, OUTPUT = "input", "output"
"""What a tensor is called here that has no name there."""

_COLUMN_TYPES: dict[str, DataType] = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_TOLD = {
    "run_id": "mlflow.run_id",
    "model_id": "mlflow.model_id",
    "model_uuid": "mlflow.model_uuid",
    "mlflow_version": "mlflow.version",
    "utc_time_created": "mlflow.created_at",
}


@dataclass(frozen=True)
class Side:
    """The inputs or the outputs of a signature."""

    specs: tuple[TensorSpec, ...]
    columns: bool
    """It is a table: each tensor is one of its columns."""


@dataclass(frozen=True)
class Example:
    """Where an input example lies, and whether it is a table."""

    path: str
    table: bool


@dataclass(frozen=True)
class MlModel:
    """What an MLmodel file says."""

    flavors: Mapping[str, Mapping[str, Any]]
    inputs: Side | None
    outputs: Side | None
    example: Example | None
    metadata: Mapping[str, str]
    """Run, versions and time, as text."""

    def flavor(self, name: str, key: str) -> str:
        """Return a text of a flavor, "" if there is none."""
        value = self.flavors.get(name, {}).get(key)
        return value if isinstance(value, str) else ""

    def file(self, name: str, *keys: str) -> str:
        """Return the path of a flavor's model file; raise InvalidError if it names none."""
        for key in keys:
            if path := self.flavor(name, key):
                return str(files.relative_path(path, f"{FILE} flavors.{name}.{key}"))
        raise InvalidError(FILE, name, f"its flavor names no {' or '.join(keys)}: save it again")


def read(directory: Path) -> MlModel:
    """Return what a directory's MLmodel says; raise InvalidError naming what is wrong with it."""
    with (directory / FILE).open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InvalidError(FILE, f"more than {MAX_BYTES} bytes", "save the model again")
    try:
        said = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidError(FILE, str(error).splitlines()[0], "save the model again") from error
    flavors = said.get("flavors") if isinstance(said, dict) else None
    if not isinstance(flavors, dict) or not all(isinstance(f, dict) for f in flavors.values()):
        raise InvalidError(FILE, None, "it names no flavors: save the model again")
    signature = said.get("signature") or {}
    return MlModel(
        flavors=flavors,
        inputs=_side(signature, "inputs", INPUT),
        outputs=_side(signature, "outputs", OUTPUT),
        example=_example(said.get("saved_input_example_info")),
        metadata=_metadata(said, flavors),
    )


def no_signature(side: str) -> InvalidError:
    """Return the error that says how to save a signature."""
    return InvalidError(
        f"{FILE} signature.{side}",
        None,
        "save the model with signature=mlflow.models.infer_signature(inputs, outputs)",
    )


def _side(signature: Any, side: str, unnamed: str) -> Side | None:
    text = signature.get(side) if isinstance(signature, dict) else None
    if text is None:
        return None
    field = f"{FILE} signature.{side}"
    try:
        listed = json.loads(text)
        tensor = [each["type"] == "tensor" for each in listed]
    except (TypeError, ValueError, KeyError) as error:
        raise InvalidError(field, text, "save the model again") from error
    if not 0 < len(listed) <= MAX_COLUMNS:
        fix = f"list 1 to {MAX_COLUMNS}: save a wide table with the signature of its numpy array"
        raise InvalidError(field, len(listed), fix)
    specs = tuple(
        _tensor(each, field, unnamed) if is_tensor else _column(each, field, unnamed)
        for each, is_tensor in zip(listed, tensor, strict=True)
    )
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise InvalidError(field, names, "give each its own name")
    return Side(specs, columns=not all(tensor))


def _tensor(said: Mapping[str, Any], field: str, unnamed: str) -> TensorSpec:
    spec = said.get("tensor-spec")
    try:
        dtype, shape = np.dtype(spec["dtype"]), tuple(int(size) for size in spec["shape"])  # type: ignore[index]  # TypeError is caught
    except (TypeError, KeyError, ValueError) as error:
        raise InvalidError(field, said, "save the model again") from error
    datatype = "BYTES" if dtype.kind in "US" else tensors.DATATYPES.get(dtype)
    if datatype is None or dtype.kind == "O":
        raise InvalidError(field, str(dtype), f"use one of {', '.join(tensors.DTYPES)}")
    return TensorSpec(name=str(said.get("name") or unnamed), datatype=datatype, shape=shape)


def _column(said: Mapping[str, Any], field: str, unnamed: str) -> TensorSpec:
    kind = said["type"]
    datatype = _COLUMN_TYPES.get(kind) if isinstance(kind, str) else None
    if datatype is None:
        fix = f"columns may be {', '.join(_COLUMN_TYPES)}: convert before the model"
        raise InvalidError(field, kind, fix)
    return TensorSpec(name=str(said.get("name") or unnamed), datatype=datatype, shape=(-1,))


def _example(info: Any) -> Example | None:
    if not isinstance(info, dict) or info.get("type") not in {"ndarray", "dataframe"}:
        return None
    path = files.relative_path(str(info.get("artifact_path")), f"{FILE} saved_input_example_info")
    return Example(str(path), table=info["type"] == "dataframe")


def _metadata(said: Mapping[str, Any], flavors: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    found = {told: str(said[key]) for key, told in _TOLD.items() if said.get(key)}
    if python := flavors.get("python_function", {}).get("python_version"):
        found["mlflow.python_version"] = str(python)
    own = said.get("metadata")
    if isinstance(own, dict):
        plain = {key: value for key, value in own.items() if isinstance(value, str | int | float)}
        found.update({f"mlflow.metadata.{key}": str(value) for key, value in plain.items()})
    return found
