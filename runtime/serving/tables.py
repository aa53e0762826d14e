"""Rows and columns, as people and spreadsheets have them, onto a model's tensors and back.

    the model takes                     columns of the table
    ─────────────────────────────────   ───────────────────────────────────────────────────────────
    one input [N, k]                    k: the bundle's own names if it tells them, else f0, f1, …
                                        (the input's own name if k is 1)
    one input [N], several inputs       one for each input, called like it; a cell is a value, or
                                        nested lists of what follows N in the input's shape

Columns that the bundle does not name may be called anything if their order is told (`columns`, the
head of a CSV file): then it is their order that counts. Records have no order, so they must use the
names. A bundle names the columns of its only input in `metadata.columns`: "age, height, weight".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from runtime.bundle.index import Signature, TensorSpec
from runtime.errors import InvalidError
from runtime.inference import tensors
from runtime.inference.tensors import DTYPES, Array, Arrays

Row = Sequence[Any]


class Layout(msgspec.Struct, frozen=True):
    """Which columns a model takes."""

    signature: Signature
    columns: tuple[str, ...]
    """Their names, in order; () for a single input with any number of columns."""
    named: bool
    """The names are the model's own, not f0, f1, …; then names count, and not the order."""

    @property
    def matrix(self) -> TensorSpec | None:
        """The only input, if its rows are rows of the table; None: each input is a column."""
        inputs = self.signature.inputs
        return inputs[0] if len(inputs) == 1 and _is_matrix(inputs[0]) else None


def layout(signature: Signature, metadata: Mapping[str, str] | None = None) -> Layout:
    """Return the columns of a model; names that do not fit its input are not used."""
    inputs = signature.inputs
    if len(inputs) != 1 or not _is_matrix(inputs[0]):
        return Layout(signature, tuple(spec.name for spec in inputs), named=True)
    width = inputs[0].shape[1]
    told = tuple(name.strip() for name in (metadata or {}).get("columns", "").split(","))
    fits = all(told) and len(set(told)) == len(told) and width in {-1, len(told)}
    if fits:
        return Layout(signature, told, named=True)
    names = (inputs[0].name,) if width == 1 else tuple(f"f{n}" for n in range(max(width, 0)))
    return Layout(signature, names, named=False)


def from_rows(layout: Layout, columns: Sequence[str] | None, rows: Sequence[Row]) -> Arrays:
    """Return the inputs that a table makes; raise InvalidError naming the row and column.

    `columns` are the names of the cells of each row; None: they lie in the order of the layout.
    """
    order = _order(layout, columns)
    width = len(columns) if columns is not None else len(order)
    if columns is None and not order:
        width = len(rows[0]) if rows else 0
        order = tuple(range(width))
    for number, row in enumerate(rows):
        if len(row) != width:
            raise InvalidError(f"row {number}", f"{len(row)} cells", f"send {width}")
    in_order = order == tuple(range(width))
    names = layout.columns or tuple(columns or (f"f{n}" for n in range(width)))
    matrix = layout.matrix
    if matrix is not None:
        cells = rows if in_order else [[row[at] for at in order] for row in rows]
        return {matrix.name: _matrix(matrix, names, cells)}
    return {
        spec.name: _column(spec, [row[at] for row in rows])
        for spec, at in zip(layout.signature.inputs, order, strict=True)
    }


def from_records(layout: Layout, records: Sequence[Mapping[str, Any]]) -> Arrays:
    """Return the inputs that rows by name make; raise InvalidError naming the row and column."""
    columns = layout.columns
    if not columns:
        columns = tuple(f"f{n}" for n in range(len(records[0]) if records else 0))
    wanted = set(columns)
    rows = []
    for number, record in enumerate(records):
        if record.keys() != wanted:
            _refuse_names(f"row {number}", record, columns)
        rows.append([record[name] for name in columns])
    return from_rows(layout, columns, rows)


def cells_of(outputs: Arrays, rows: int) -> list[list[Any]] | None:
    """Return each row's outputs, one cell each; None if an output has not that many rows."""
    if any(array.ndim == 0 or array.shape[0] != rows for array in outputs.values()):
        return None
    columns = [plain(_without_one(array)) for array in outputs.values()]
    return [list(cells) for cells in zip(*columns, strict=True)]


def plain(array: Array) -> Any:
    """Return an array as nested lists that JSON can carry; bytes become text."""
    values = array.tolist()
    if array.dtype.kind in "OS":
        return _texts(values)
    return values


def value(spec: TensorSpec, given: Any) -> Array:
    """Return nested values as one input, to which a missing batch dimension is added."""
    field = f"inputs[{spec.name}]"
    array = tensors.from_values(field, given, spec.datatype)
    if array.ndim == len(spec.shape) - 1 and spec.shape[0] in {-1, 1}:
        array = array[np.newaxis]
    tensors.require_shape(f"{field}.shape", array.shape, spec)
    return array


def _is_matrix(spec: TensorSpec) -> bool:
    return len(spec.shape) == 2  # noqa: PLR2004 - rows, columns


def _order(layout: Layout, columns: Sequence[str] | None) -> tuple[int, ...]:
    """Return where in a row each column of the layout lies."""
    if columns is None:
        return tuple(range(len(layout.columns)))
    if set(columns) == set(layout.columns) and len(columns) == len(layout.columns):
        return tuple(columns.index(name) for name in layout.columns)
    if not layout.named and len(columns) == (len(layout.columns) or len(columns)):
        return tuple(range(len(columns)))
    _refuse_names("columns", columns, layout.columns)
    raise AssertionError


def _refuse_names(field: str, given: Sequence[str] | Mapping[str, Any], wanted: Row) -> None:
    """Raise InvalidError that says which name is one too many, twice there, or missing."""
    names = list(given)
    for name in names:
        if name not in wanted:
            raise InvalidError(f"{field}, column {name!r}", name, f"the model takes {_few(wanted)}")
    for name in wanted:
        if name not in names:
            raise InvalidError(f"{field}, column {name!r}", None, f"send {_few(wanted)}")
    raise InvalidError(field, names, "send each column once")


def _matrix(spec: TensorSpec, names: Sequence[str], rows: Sequence[Row]) -> Array:
    width = max(spec.shape[1], 0) or len(names)
    if not rows:
        array = np.empty((0, width), DTYPES[spec.datatype])
    else:
        try:
            array = tensors.from_values(f"inputs[{spec.name}]", rows, spec.datatype)
        except InvalidError as error:
            _locate(spec, names, rows)
            raise error from None
        if array.shape != (len(rows), width):
            _locate(spec, names, rows)
    tensors.require_shape(f"inputs[{spec.name}].shape", array.shape, spec)
    return array


def _locate(spec: TensorSpec, names: Sequence[str], rows: Sequence[Row]) -> None:
    """Raise InvalidError for the first cell that is no value of the input, if there is one."""
    for number, row in enumerate(rows):
        for name, cell in zip(names, row, strict=True):
            _cell(f"row {number}, column {name!r}", cell, spec, ())


def _column(spec: TensorSpec, cells: list[Any]) -> Array:
    """Return one input from the cells of one column; a value stands for a list of one."""
    name = f"column {spec.name!r}"
    if not spec.shape:
        if len(cells) != 1:
            raise InvalidError("rows", len(cells), f"send one: {spec.name} has no rows")
        return _cell(f"row 0, {name}", cells[0], spec, ())
    shape = spec.shape[1:]
    if not cells:
        return np.empty((0, *(max(size, 0) for size in shape)), DTYPES[spec.datatype])
    try:
        array = tensors.from_values(name, cells, spec.datatype)
        array = array.reshape(-1, 1) if shape == (1,) and array.ndim == 1 else array
        tensors.require_shape(name, array.shape, spec)
    except InvalidError:
        for number, cell in enumerate(cells):
            _cell(f"row {number}, {name}", cell, spec, shape)
        raise
    return array


def _cell(field: str, cell: Any, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    """Return one cell of an input; raise InvalidError, that names it, if it is none."""
    nested = isinstance(cell, list)
    if nested != bool(shape) and (nested or shape != (1,)):
        fix = f"send nested lists of shape {list(shape)}" if shape else "send one value"
        raise InvalidError(field, cell, fix)
    array = tensors.from_values(field, cell if nested else [cell], spec.datatype)
    if not nested:
        return array.reshape(shape)
    tensors.require_shape(field, array.shape, TensorSpec(spec.name, spec.datatype, shape))
    return array


def _without_one(array: Array) -> Array:
    """Return [N, 1] as [N]: a cell of one value is that value."""
    return array.reshape(-1) if array.shape[1:] == (1,) else array


def _texts(values: Any) -> Any:
    if isinstance(values, list):
        return [_texts(value) for value in values]
    return values.decode(errors="replace") if isinstance(values, bytes) else values


def _few(names: Row) -> str:
    shown = ", ".join(map(str, names[:20]))
    return shown if len(names) <= 20 else f"{shown}, … ({len(names)})"  # noqa: PLR2004 - a message
