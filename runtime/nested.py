"""Tensors of many records as columns: shapes here, values there.

`outputs` and `inputs` of a record map tensor names to nested lists. Records with the same names
share a layout; of each of its tensors, the values of all records become one column:

    ["t", layouts, integers, tensors]
        layouts   what names occur together: a list of texts, or null where a record has no mapping
        integers  which layout each record has (a column)
        tensors   for each layout, for each of its names, one of
                      ["a", shapes, integers, values]   the shapes, which one each record has, and a
                                                        column of the values: with one shape cell by
                                                        cell, with several record by record
                      ["m", values]                     value by value, where they are not regular
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime import columns
from runtime.columns import Budget, Column

MAX_DEPTH = 16
"""How deep the lists of a regular tensor may be nested."""
_FEW = 1024
"""Cells that a row is gathered from at once; that is faster than stepping through all of them."""

Values = Mapping[str, Any] | None


def encode(mappings: Sequence[Values]) -> Column:
    """Return the column of one mapping (or None) per record."""
    if all(mapping is None for mapping in mappings):
        return ["c", None]
    layouts: dict[tuple[str, ...] | None, int] = {}
    members: list[list[Mapping[str, Any]]] = []
    indices = []
    for mapping in mappings:
        names = None if mapping is None else tuple(mapping)
        index = layouts.setdefault(names, len(layouts))
        if index == len(members):
            members.append([])
        if mapping is not None:
            members[index].append(mapping)
        indices.append(index)
    tensors = [
        [_encode_tensor([mapping[name] for mapping in group]) for name in names or ()]
        for names, group in zip(layouts, members, strict=True)
    ]
    names_of = [None if names is None else list(names) for names in layouts]
    return ["t", names_of, columns.encode(indices), tensors]


def decode(column: object, count: int, budget: Budget) -> list[dict[str, Any] | None]:
    """Return the `count` mappings of a column; raise InvalidError if it is none."""
    match column:
        case ["c", None]:
            return [None] * count
        case ["t", list(layouts), integers, list(tensors)] if len(layouts) == len(tensors):
            pass
        case _:
            raise columns.wrong(column)
    indices = _decode_indices(integers, count, len(layouts), budget)
    mappings: list[dict[str, Any] | None] = [None] * count
    for index, (names, parts) in enumerate(zip(layouts, tensors, strict=True)):
        members = [at for at, layout in enumerate(indices) if layout == index]
        if names is None:
            continue
        if not _are_names(names) or not isinstance(parts, list) or len(parts) != len(names):
            raise columns.wrong(column)
        budget.cells(len(members) * len(names))
        rows = [_decode_tensor(part, len(members), budget) for part in parts]
        for row, at in enumerate(members):
            mappings[at] = {name: rows[part][row] for part, name in enumerate(names)}
    return mappings


def _are_names(names: object) -> bool:
    if not isinstance(names, list) or not all(type(name) is str for name in names):
        return False
    return len(set(names)) == len(names)


def _decode_indices(column: object, count: int, kinds: int, budget: Budget) -> list[int]:
    indices = columns.decode(column, count, budget)
    if not all(type(index) is int and 0 <= index < kinds for index in indices):
        raise columns.wrong(column)
    return indices


def _encode_tensor(values: list[Any]) -> Column:
    shapes: dict[tuple[int, ...], int] = {}
    indices = []
    rows = []
    for value in values:
        flat = _flatten(value)
        if flat is None:
            return ["m", values]
        shape, cells = flat
        indices.append(shapes.setdefault(shape, len(shapes)))
        rows.append(cells)
    if len(shapes) == 1:
        cells = [row[cell] for cell in range(len(rows[0])) for row in rows]
    else:
        cells = [cell for row in rows for cell in row]
    return ["a", list(map(list, shapes)), columns.encode(indices), columns.encode(cells)]


def _decode_tensor(column: object, count: int, budget: Budget) -> list[Any]:
    match column:
        case ["m", list()]:
            return columns.decode(column, count, budget)
        case ["a", list(shapes), integers, cells_column]:
            pass
        case _:
            raise columns.wrong(column)
    if not all(map(_is_shape, shapes)):
        raise columns.wrong(column)
    indices = _decode_indices(integers, count, len(shapes), budget)
    # A shape with a zero in it has no cells, but lists to be made all the same.
    lists = [math.prod(max(1, size) for size in shape) for shape in shapes]
    budget.cells(sum(map(lists.__getitem__, indices)))
    each = list(map(math.prod, shapes))
    sizes = list(map(each.__getitem__, indices))
    cells = columns.decode(cells_column, sum(sizes), budget)
    if len(shapes) == 1:
        return [_nest(shapes[0], row) for row in _rows(cells, count, each[0])]
    values = []
    start = 0
    for index, size in zip(indices, sizes, strict=True):
        values.append(_nest(shapes[index], cells[start : start + size]))
        start += size
    return values


def _rows(cells: list[Any], count: int, size: int) -> Iterable[list[Any]]:
    """Return the `size` cells of each of `count` rows, which lie cell by cell."""
    if 0 < size <= _FEW:
        by_cell = (cells[at * count : (at + 1) * count] for at in range(size))
        return map(list, zip(*by_cell, strict=True))
    return (cells[row::count] for row in range(count))


def _is_shape(shape: object) -> bool:
    if not isinstance(shape, list) or len(shape) > MAX_DEPTH:
        return False
    return all(type(size) is int and size >= 0 for size in shape)


def _flatten(value: Any) -> tuple[tuple[int, ...], list[Any]] | None:
    """Return the shape of nested lists and their values in order; None if they are not regular."""
    shape: list[int] = []
    cells = [value]
    while list in (kinds := set(map(type, cells))):
        sizes = set(map(len, cells)) if len(kinds) == 1 else set()
        if len(sizes) != 1 or len(shape) == MAX_DEPTH:
            return None
        shape.append(sizes.pop())
        cells = cells[0] if len(cells) == 1 else list(itertools.chain.from_iterable(cells))
    return None if dict in kinds else (tuple(shape), cells)


def _nest(shape: Sequence[int], cells: list[Any]) -> Any:
    """Return nested lists of this shape."""
    if not shape:
        return cells[0]
    for size in reversed(shape[1:]):
        if size == 0:
            return _empty(shape)
        if size == len(cells):
            cells = [cells]
        else:
            cells = [cells[start : start + size] for start in range(0, len(cells), size)]
    return cells


def _empty(shape: Sequence[int]) -> list[Any]:
    """Return nested lists of a shape that holds no values."""
    if len(shape) == 1:
        return []
    return [_empty(shape[1:]) for _ in range(shape[0])]
