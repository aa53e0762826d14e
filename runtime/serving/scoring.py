"""Plain scoring: a table in, a table out, for those who do not think in tensors.

    Content-Type       body                                        answer
    ─────────────────  ──────────────────────────────────────────  ─────────────────────────────
    application/json   {"columns": […], "data": [[…], …]}          {"columns": […], "data": …}
                       {"rows": [{column: cell, …}, …]}, […]       {"predictions": [{output: …}, …]}
                       {"inputs": {input: values, …}}              {"outputs": {output: values, …}}
    text/csv           a head of names, then rows                  the same

How columns become tensors is said in runtime.serving.tables. JSON answers also name the model and
its version. The names that MLflow gives the first two forms (dataframe_split, dataframe_records)
are taken too. Where an output has not as many rows as came in, it cannot be put beside them: then
the answer is {"outputs": …} whatever was sent.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from runtime.bundle.index import DataType
from runtime.errors import InvalidError, ModelError
from runtime.inference import tensors
from runtime.inference.tensors import DTYPES, Arrays
from runtime.serving import tables
from runtime.serving.tables import Layout

JSON, CSV = "application/json", "text/csv"

Style = Literal["columns", "records", "tensors", "csv"]
"""How values lie in a body."""

_FORMS = 'send {"rows": [{…}, …]}, {"columns": […], "data": [[…], …]} or {"inputs": {…}}'
_ALIASES = {"dataframe_split": None, "dataframe_records": "rows", "instances": "rows"}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Table(msgspec.Struct, frozen=True):
    """A request, read."""

    inputs: Arrays
    style: Style
    rows: int | None
    """How many rows it has; None: its values came by tensor."""


def decode(body: bytes | bytearray | memoryview, content_type: str, layout: Layout) -> Table:
    """Return what a request asks; raise InvalidError naming the row and column that is wrong.

    `content_type` is the header as it came; "" is JSON.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == CSV:
        return _from_csv(bytes(body), layout)
    if kind not in {JSON, "", "application/x-www-form-urlencoded"}:
        raise InvalidError("Content-Type", content_type, f"send {JSON} or {CSV}")
    try:
        said: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError("body", bytes(body[:80]), str(error)) from error
    except RecursionError as error:
        raise InvalidError("body", bytes(body[:80]), "nest less deeply") from error
    return _from_json(said, layout)


def encode(name: str, version: str, table: Table, outputs: Arrays) -> tuple[bytes, str]:
    """Return an answer's body and Content-Type; raise ModelError for what it cannot carry."""
    for output, array in outputs.items():
        tensors.datatype_of(output, array)
    answer: dict[str, Any] = {"model": name, "version": version}
    cells = None if table.rows is None else tables.cells_of(outputs, table.rows)
    if cells is None:
        answer["outputs"] = {output: tables.plain(array) for output, array in outputs.items()}
    elif table.style == "csv":
        return _to_csv(list(outputs), cells), CSV
    elif table.style == "columns":
        answer.update(columns=list(outputs), data=cells)
    else:
        answer["predictions"] = [dict(zip(outputs, row, strict=True)) for row in cells]
    try:
        return msgspec.json.encode(answer), JSON
    except (msgspec.EncodeError, TypeError) as error:
        raise ModelError(f"an output is no text and no number: {error}") from error


def _from_json(said: Any, layout: Layout) -> Table:
    if isinstance(said, list):
        return _records(said, layout)
    if not isinstance(said, dict):
        raise InvalidError("body", said, _FORMS)
    for alias, meant in _ALIASES.items():
        if alias in said:
            inner = said[alias]
            return _from_json(inner if meant is None else {meant: inner}, layout)
    if "rows" in said:
        return _records(said["rows"], layout)
    if "data" in said:
        return _columns(said.get("columns"), said["data"], layout)
    if "inputs" in said:
        return Table(_tensors(said["inputs"], layout), "tensors", None)
    raise InvalidError("body", list(said)[:10], _FORMS)


def _records(rows: Any, layout: Layout) -> Table:
    _require_list("rows", rows)
    if rows and not isinstance(rows[0], dict):
        return _columns(None, rows, layout)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidError(f"row {number}", row, "send {column: cell, …} as the rows before")
    return Table(tables.from_records(layout, rows), "records", len(rows))


def _columns(columns: Any, rows: Any, layout: Layout) -> Table:
    if columns is not None:
        _require_list("columns", columns)
        if not all(isinstance(name, str) for name in columns):
            raise InvalidError("columns", columns, "send names")
    _require_list("data", rows)
    for number, row in enumerate(rows):
        if not isinstance(row, list):
            raise InvalidError(f"row {number}", row, "send a list of cells")
    return Table(tables.from_rows(layout, columns, rows), "columns", len(rows))


def _tensors(said: Any, layout: Layout) -> Arrays:
    specs = {spec.name: spec for spec in layout.signature.inputs}
    if not isinstance(said, dict):
        if len(specs) != 1:
            raise InvalidError("inputs", said, f"send {{input: values}} for {', '.join(specs)}")
        said = dict.fromkeys(specs, said)
    tensors.require_names(said, specs)
    return {name: tables.value(spec, said[name]) for name, spec in specs.items()}


def _require_list(field: str, value: Any) -> None:
    if not isinstance(value, list):
        raise InvalidError(field, value, "send a list")


def _from_csv(body: bytes, layout: Layout) -> Table:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidError("body", body[:80], "send UTF-8") from error
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise InvalidError("body", text[:80], f"{error}: quote cells as CSV does") from error
    if not lines:
        raise InvalidError("body", "no lines", "send a head of names, then rows")
    columns, texts = [name.strip() for name in lines[0]], lines[1:]
    kinds = _kinds(columns, layout)
    rows = []
    for number, line in enumerate(texts):
        if len(line) != len(columns):
            raise InvalidError(
                f"row {number}", f"{len(line)} cells", f"the head has {len(columns)}"
            )
        rows.append(
            [
                _cell(number, name, kind, cell)
                for name, kind, cell in zip(columns, kinds, line, strict=True)
            ]
        )
    return Table(tables.from_rows(layout, columns, rows), "csv", len(rows))


def _kinds(columns: Sequence[str], layout: Layout) -> list[DataType]:
    """Return the datatype of each column; a name that is unknown is refused later."""
    if layout.matrix is not None:
        return [layout.matrix.datatype] * len(columns)
    kinds: Mapping[str, DataType] = {s.name: s.datatype for s in layout.signature.inputs}
    return [kinds.get(name, "BYTES") for name in columns]


def _cell(number: int, column: str, kind: DataType, text: str) -> Any:
    """Return the value of one cell of CSV; nothing is a missing number."""
    family = DTYPES[kind].kind
    if family == "O":
        return text
    text = text.strip()
    try:
        if family == "f":
            return float(text) if text else None
        return _TRUTH[text.lower()] if family == "b" else int(text)
    except (ValueError, KeyError) as error:
        raise InvalidError(f"row {number}, column {column!r}", text, f"send {kind}") from error


def _to_csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return rows as CSV; an output of several values has a column for each."""
    widths = [len(cell) if isinstance(cell, list) else 0 for cell in (rows[0] if rows else ())]
    head = [
        f"{name}_{at}" if width else name
        for name, width in zip(names, widths or [0] * len(names), strict=True)
        for at in range(width or 1)
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(head)
    for row in rows:
        flat: list[Any] = []
        for cell in row:
            flat += cell if isinstance(cell, list) else [cell]
        writer.writerow(flat)
    return text.getvalue().encode()
