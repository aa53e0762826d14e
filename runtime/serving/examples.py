"""Requests that a model answers, to be shown to people: of one row, in JSON."""

import math
from typing import Any

from runtime.bundle.index import Signature
from runtime.inference import tensors
from runtime.inference.tensors import Array, Arrays
from runtime.serving import tables
from runtime.serving.tables import Layout

MAX_EXAMPLE_VALUES = 4096

Json = dict[str, Any]


def first_row(signature: Signature, arrays: Arrays | None) -> Arrays:
    """Return inputs of one row, or of as few as the signature allows."""
    made = tensors.zeros(signature)
    for spec in signature.inputs:
        given = None if arrays is None else arrays.get(spec.name)
        if given is not None and spec.shape and spec.shape[0] == -1 and len(given):
            made[spec.name] = given[:1]
        elif given is not None:
            made[spec.name] = given
    return made


def score_body(layout: Layout, arrays: Arrays) -> Json | None:
    """Return a body for /score; None if it would be too large to be read."""
    if _values(arrays) > MAX_EXAMPLE_VALUES:
        return None
    rows = {array.shape[0] if array.ndim else 1 for array in arrays.values()}
    if len(rows) != 1:
        return {"inputs": {name: tables.plain(array) for name, array in arrays.items()}}
    matrix = layout.matrix
    if matrix is None:
        columns = [_cells(arrays[spec.name]) for spec in layout.signature.inputs]
        table = [list(row) for row in zip(*columns, strict=True)]
    else:
        table = tables.plain(arrays[matrix.name])
    names = layout.columns or tuple(f"f{n}" for n in range(len(table[0]) if table else 0))
    return {"rows": [_finite(dict(zip(names, row, strict=True))) for row in table]}


def infer_body(signature: Signature, arrays: Arrays) -> Json | None:
    """Return a body for /v2/models/…/infer; None if it would be too large to be read."""
    if _values(arrays) > MAX_EXAMPLE_VALUES:
        return None
    return {
        "inputs": [
            {
                "name": spec.name,
                "shape": list(arrays[spec.name].shape),
                "datatype": spec.datatype,
                "data": _finite(tables.plain(arrays[spec.name].ravel())),
            }
            for spec in signature.inputs
        ]
    }


def _cells(array: Array) -> Any:
    """Return a column of cells: [N, 1] and a scalar as plain values."""
    return tables.plain(array.reshape(-1) if array.shape[1:] in {(), (1,)} else array)


def _finite(value: Any) -> Any:
    """Return a value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _values(arrays: Arrays) -> int:
    return sum(array.size for array in arrays.values())
