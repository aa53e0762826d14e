"""An MLflow input example as arrays by input name, for the bundle's check."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloud.importing.mlmodel import Example
from runtime.bundle.index import Signature
from runtime.errors import InvalidError
from runtime.inference import tensors
from runtime.inference.tensors import Arrays

MAX_BYTES = 32 << 20
MAX_ROWS = 64
"""A check needs a few: every device runs it."""


def read(directory: Path, example: Example, signature: Signature) -> Arrays:
    """Return an example's first rows as the model takes them; raise InvalidError if none fit."""
    path = directory / example.path
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise InvalidError("input example", example.path, f"a file of at most {MAX_BYTES} bytes")
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidError("input example", example.path, "it is no JSON") from error
    named = _columns(said) if example.table else _tensors(said, signature)
    specs = {spec.name: spec for spec in signature.inputs}
    tensors.require_names(named, specs)
    arrays = {
        name: tensors.from_values(f"input example[{name}]", values, specs[name].datatype)
        for name, values in named.items()
    }
    return tensors.conform(
        signature,
        {name: array[:MAX_ROWS] if array.ndim else array for name, array in arrays.items()},
    )


def _columns(said: Any) -> dict[str, list[Any]]:
    """Return the columns of a table in pandas' "split" form."""
    if not isinstance(said, dict) or not isinstance(said.get("data"), list):
        raise InvalidError("input example", said, "a table in pandas' orient=split")
    columns, rows = said.get("columns"), said["data"]
    if not isinstance(columns, list) or any(
        not isinstance(row, list) or len(row) != len(columns) for row in rows
    ):
        raise InvalidError("input example", columns, "rows as long as there are columns")
    return {str(name): [row[place] for row in rows] for place, name in enumerate(columns)}


def _tensors(said: Any, signature: Signature) -> Mapping[str, Any]:
    if isinstance(said, dict):
        return said
    if len(signature.inputs) != 1:
        raise InvalidError("input example", "one array", f"{len(signature.inputs)} inputs")
    return {signature.inputs[0].name: said}
